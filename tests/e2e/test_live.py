"""`live`, the Node.js service, alone with a Valkey of its own."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import uvloop

from seawall import Service
from seawall.messaging.base import Message
from seawall.messaging.connect import open_transport
from seawall.service.settings import Settings
from seawall.testing.platform import Platform
from shop.contracts import OrderMoved
from shop.notifications import feed
from tests.support import servers
from tests.support.waiting import eventually_sync

SERVER = Path(__file__).parents[2] / "examples" / "shop" / "live" / "server.js"


class Live:
    """One replica."""

    def __init__(self, url: str, name: str) -> None:
        self.port = servers.free_port()
        self.process = subprocess.Popen(
            ["node", SERVER],
            env={
                "PATH": "/usr/bin:/bin:/usr/local/bin",
                "PORT": str(self.port),
                "SEAWALL_REGISTRY__URL": url,
                "SEAWALL_INSTANCE_ID": name,
            },
        )

    def ask(self, path: str, subject: str = "ann") -> tuple[int, HTTPConnection, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path, headers={"x-identity-subject": subject})
        answer = connection.getresponse()
        return answer.status, connection, answer

    def is_ready(self) -> bool:
        try:
            status, connection, _ = self.ask("/readyz")
        except OSError:
            return False
        connection.close()
        return status == 200

    def follow(self, order: str) -> list[str]:
        """The statuses told until the stream ends."""
        status, connection, answer = self.ask(f"/live/orders/{order}")
        assert status == 200
        told = [json.loads(line[6:])["status"] for line in answer if line.startswith(b"data: ")]
        connection.close()
        return told


@pytest.fixture
def valkey_alone() -> Iterator[servers.RespServer]:
    server = servers.valkey()
    yield server
    server.stop()


@pytest.fixture
def replicas(valkey_alone: servers.RespServer) -> Iterator[list[Live]]:
    if shutil.which("node") is None:
        pytest.skip("node is not installed: the shop runs without live")
    started = [Live(valkey_alone.url, f"live-{n}") for n in (1, 2)]
    eventually_sync(lambda: all(replica.is_ready() for replica in started))
    yield started
    for replica in started:
        replica.process.kill()
        replica.process.wait()


def publish(url: str, order: str, *statuses: tuple[int, str]) -> None:
    """As `orders` does it: through Seawall's own transport."""

    async def send() -> None:
        transport = open_transport(url)
        await transport.open()
        for sequence, status in statuses:
            event = {
                "order_id": order,
                "customer": "ann",
                "status": status,
                "sequence": sequence,
                "at": 0.0,
            }
            message = Message(f"{order}-{sequence}", json.dumps(event).encode(), key=order)
            await transport.publish("order.moved", [message])
        await transport.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send())


STORY = ((1, "placed"), (2, "reserved"), (3, "completed"))
TOLD = ["placed", "reserved", "completed"]


def test_every_replica_tells_the_whole_story(
    valkey_alone: servers.RespServer, replicas: list[Live]
) -> None:
    publish(valkey_alone.url, "o-1", *STORY)
    assert [replica.follow("o-1") for replica in replicas] == [TOLD, TOLD]


def test_an_event_that_comes_twice_is_told_once(
    valkey_alone: servers.RespServer, replicas: list[Live]
) -> None:
    publish(valkey_alone.url, "o-1", STORY[0], STORY[0], STORY[1], STORY[0], STORY[2])
    assert replicas[0].follow("o-1") == TOLD


async def test_news_that_take_another_broker_reach_it(
    valkey_alone: servers.RespServer, replicas: list[Live]
) -> None:
    notifications = Service("notifications")
    async with Platform() as platform:
        here = Settings(messages_url=platform.messages_url, registry_url=valkey_alone.url)
        feed.attach(notifications, here)
        await platform.start(notifications)
        for sequence, status in STORY:
            event = OrderMoved(
                order_id="o-1", customer="ann", status=status, sequence=sequence, at=0.0
            )
            await platform.publish("order.moved", event)
        assert await asyncio.to_thread(replicas[1].follow, "o-1") == TOLD


def test_what_cannot_be_read_does_not_stop_it(
    valkey_alone: servers.RespServer, replicas: list[Live]
) -> None:
    async def send() -> None:
        transport = open_transport(valkey_alone.url)
        await transport.open()
        for body in (b"{", b"[]", b"null", b'{"order_id": 1}', b"\xff"):
            await transport.publish("order.moved", [Message("x", body)])
        await transport.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send())
    publish(valkey_alone.url, "o-1", *STORY)
    assert replicas[0].follow("o-1") == TOLD


def test_it_comes_back_when_valkey_does(
    valkey_alone: servers.RespServer, replicas: list[Live]
) -> None:
    publish(valkey_alone.url, "o-1", *STORY)
    assert replicas[0].follow("o-1") == TOLD
    valkey_alone.kill()
    eventually_sync(lambda: not replicas[0].is_ready())
    valkey_alone.start()
    eventually_sync(lambda: all(replica.is_ready() for replica in replicas), within=10)
    publish(valkey_alone.url, "o-2", *STORY)
    assert [replica.follow("o-2") for replica in replicas] == [TOLD, TOLD]
    assert replicas[1].follow("o-1") == TOLD


def test_sigterm_ends_streams_and_the_process(
    valkey_alone: servers.RespServer, replicas: list[Live]
) -> None:
    publish(valkey_alone.url, "o-1", STORY[0])
    status, connection, answer = replicas[0].ask("/live/orders/o-1")
    assert status == 200
    replicas[0].process.terminate()
    assert b"data: " in answer.read()  # to its end, which is there though the order goes on
    connection.close()
    assert replicas[0].process.wait(10) == 0
    publish(valkey_alone.url, "o-1", *STORY[1:])
    assert replicas[1].follow("o-1") == TOLD


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 404), ("/live/orders/", 404), ("/live/orders/%00", 404), ("/live/orders/A", 404)],
)
def test_other_paths_are_not_found(replicas: list[Live], path: str, status: int) -> None:
    found, connection, _ = replicas[0].ask(path)
    connection.close()
    assert found == status
