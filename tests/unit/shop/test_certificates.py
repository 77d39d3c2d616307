"""How programs without Seawall show certificates: the shop's mailbox, and its Node.js service."""

import asyncio
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seawall.errors import SeawallError
from seawall.identity.credentials import Credentials
from seawall.topology import Address
from seawall.transport.http1 import Answer, request_head
from seawall.transport.pool import Pool, PoolConfig
from shop.mailbox.__main__ import Server
from shop.mailbox.certificate import Certificate
from shop.mailbox.store import Mails
from tests.support.identified import Issuing
from tests.support.waiting import eventually_sync

LIVE = Path(__file__).parents[3] / "examples" / "shop" / "live"

NODE = """
const { createServer } = require(process.argv[1]);
const server = createServer((request, response) => response.end('hello'));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"""


@pytest.fixture
def issuing(tmp_path: Path) -> Issuing:
    return Issuing(tmp_path)


@contextmanager
def mailbox(folder: Path, mails: Path) -> Iterator[Address]:
    server = Server(("127.0.0.1", 0), Mails(mails), 25, Certificate(folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield Address(*server.server_address[:2])  # type: ignore[misc]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(address: Address, caller: Credentials, callee: str, path: str = "/readyz") -> Answer:
    async def asked() -> Answer:
        config = PoolConfig(limit=1, connect_timeout=10.0)
        pool = Pool(address, config, tls=caller.towards(callee))
        try:
            head = request_head("GET", path, callee, [], None)
            return await pool.exchange(head, b"", within=10.0, method="GET")
        finally:
            pool.close()

    return asyncio.run(asked())


def test_the_mailbox_answers_whom_its_policy_names(issuing: Issuing, tmp_path: Path) -> None:
    folder = issuing.write("mailbox", ("notifications",))
    friend = Credentials(issuing.write("notifications"))
    other = Credentials(issuing.write("orders"))
    with mailbox(folder, tmp_path / "mails") as address:
        assert ask(address, friend, "mailbox").status == 200
        with pytest.raises(SeawallError):
            ask(address, other, "mailbox")
        issuing.write("mailbox", ("orders",))
        assert ask(address, other, "mailbox").status == 200


async def test_node_answers_whom_its_policy_names(issuing: Issuing) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    folder = await asyncio.to_thread(issuing.write, "live", ("gateway",))
    friend, _ = await issuing.credentials("gateway")
    other, _ = await issuing.credentials("orders")
    process = await asyncio.create_subprocess_exec(
        *(node, "-e", NODE, str(LIVE / "certificate.js")),
        env={**os.environ, "SEAWALL_TLS": str(folder)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        address = Address("127.0.0.1", int(await process.stdout.readline()))
        answer = await asyncio.to_thread(ask, address, friend, "live")
        assert (answer.status, answer.body) == (200, b"hello")
        refused = await asyncio.to_thread(ask, address, other, "live")
        assert refused.status == 403
        assert b"shop/orders may not call live" in refused.body
        await asyncio.to_thread(issuing.write, "live", ("orders",))

        def let_in() -> bool:
            return ask(address, other, "live").status == 200

        await asyncio.to_thread(eventually_sync, let_in)
    finally:
        process.kill()
        await process.wait()
