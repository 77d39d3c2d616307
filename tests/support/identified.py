"""Services with certificates, in this process: who serves, who calls, and what goes between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import uvicorn

from seawall.concurrency.tasks import Tasks
from seawall.identity.authority import LIFETIME, Authority
from seawall.identity.credentials import POLICY, Credentials, Policy
from seawall.identity.workload import WorkloadId
from seawall.service.server import Server
from seawall.topology import Address

EXPIRED = -LIFETIME - timedelta(hours=1)  # before now, when it was issued


def workload(service: str) -> WorkloadId:
    return WorkloadId("shop", service)


class Issuing:
    """Folders with certificates of one authority."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.authority = Authority.generate(datetime.now(UTC) - timedelta(days=2))

    def write(
        self,
        service: str,
        callers: tuple[str, ...] = (),
        *,
        since: timedelta = timedelta(0),
        by: Authority | None = None,
        plain: tuple[str, ...] = (),
    ) -> Path:
        """A certificate of `service`, issued `since` from now and, if not by our authority, `by`
        another one, whose bearer still trusts ours. Called again it replaces the one before."""
        issued = (by or self.authority).issue(workload(service), datetime.now(UTC) + since)
        policy = Policy(frozenset(map(workload, callers)), frozenset(plain))
        folder = self._path / service
        issued.write(folder, also={POLICY: policy.to_json()})
        if by is not None:
            trusted = self.authority.issue(workload(service), datetime.now(UTC))
            (folder / "ca.crt").write_bytes(trusted.authority)
        return folder

    async def credentials(
        self, service: str, callers: tuple[str, ...] = (), **more: Any
    ) -> tuple[Credentials, list[object]]:
        """Those of a certificate that `write` writes, and the facts they tell."""
        facts: list[object] = []

        def make() -> Credentials:
            return Credentials(self.write(service, callers, **more), observer=facts.append)

        return await asyncio.to_thread(make), facts


class Stock:
    """An application that counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.schemes: set[str] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        self.schemes.add(scope["scheme"])
        headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"tea":7}'})


@asynccontextmanager
async def serving(
    app: Any, credentials: Credentials | None, *, lifespan: Literal["on", "off"] = "off"
) -> AsyncIterator[Address]:
    """`app` on a port of its own, until the block ends."""
    config = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, lifespan=lifespan, server_header=False
    )
    server = Server(config)
    config.load()
    if credentials is not None:
        server.admit(credentials)
    async with Tasks() as tasks:
        running = tasks.start(server.serve())
        await server.up.wait()
        try:
            yield Address(*server.servers[0].sockets[0].getsockname()[:2])
        finally:
            server.leave(1.0, linger=0.0)
            await asyncio.wait([running])


@asynccontextmanager
async def tapped(to: Address) -> AsyncIterator[tuple[Address, bytearray]]:
    """A relay to that address, and every byte that went through it, both ways."""
    seen = bytearray()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                seen.extend(data)
                writer.write(data)
        finally:
            writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(to.host, to.port)
        await both(carry(reader, there[1]), carry(there[0], writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        yield Address(*server.sockets[0].getsockname()[:2]), seen
        server.close()


async def both(*ways: Awaitable[None]) -> None:
    await asyncio.gather(*ways, return_exceptions=True)
