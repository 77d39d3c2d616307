"""A service as a process: started, known, drained, killed; and its broker and registry, too."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from seawall import Client
from seawall.concurrency.guard import Retried
from seawall.errors import SeawallError
from seawall.registry.connect import open_registry
from seawall.registry.watcher import Watcher
from seawall.topology import InstanceState
from tests.support import servers
from tests.support.process import ServiceProcess
from tests.support.waiting import eventually, eventually_async

SOURCE = """
import asyncio
from seawall import Event, Service, Transaction
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select

metadata = MetaData()
rows = Table("rows", metadata, Column("id", Integer, primary_key=True), Column("n", Integer))
service = Service("orders", version="1.2.0", needs=["stock"])
database = service.database(metadata=metadata)

class Placed(Event, topic="order.placed"):
    n: int

@service.get("/fast")
async def fast() -> str:
    return "fast"

@service.get("/slow/{seconds}")
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slow"

@service.post("/orders/{n}")
async def place(n: int) -> None:
    async with database.transaction() as tx:
        await service.publish(Placed(n=n), tx=tx)

@service.on(Placed)
async def placed(event: Placed, tx: Transaction) -> None:
    await tx.execute(insert(rows).values(n=event.n))

@service.get("/rows")
async def count() -> list[int]:
    async with database.read() as session:
        return list((await session.execute(select(rows.c.n).order_by(rows.c.n))).scalars())

@service.on_stop
def stopped() -> None:
    print("the stop hook ran", flush=True)
"""


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


async def test_it_serves_says_so_in_json_and_exits_with_0(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    with ServiceProcess(tmp_path, SOURCE) as process:
        assert (await http.get(f"{process.url}/fast")).json() == "fast"
        process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait) == 0
        lines = process.output.splitlines()
        assert "the stop hook ran" in lines
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
        assert [line["body"] for line in parsed] == [
            "orders 1.2.0 is ready",
            f"listening on http://127.0.0.1:{process.port}",
            "orders is draining",
            "orders has stopped",
        ]
        assert all(line["service.name"] == "orders" for line in parsed)


class _Load:
    """Keep-alive clients that ask on and on, and reconnect when told to close."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answered = 0
        self.lost: list[str] = []
        self.refused = 0

    async def client(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except ConnectionRefusedError:
                self.refused += 1  # nobody listens any more: not a lost request
                return
            try:
                while await self._ask(reader, writer):
                    pass
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """True if the connection may be used again."""
        try:
            writer.write(b"GET /fast HTTP/1.1\r\nhost: a\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(6)
        except (OSError, asyncio.IncompleteReadError) as exc:
            self.lost.append(repr(exc))
            return False
        assert head.startswith(b"HTTP/1.1 200 "), head
        self.answered += 1
        return b"connection: close" not in head


async def test_sigterm_under_load_loses_no_request(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    env = {"SEAWALL_PROPAGATION_SECONDS": "2.0"}
    with ServiceProcess(tmp_path, SOURCE, env) as process:
        load = _Load(process.port)
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(http.get(f"{process.url}/slow/0.8"))
            for _ in range(8):
                tasks.create_task(load.client())
            await eventually(lambda: load.answered > 200)
            process.signal(signal.SIGTERM)
            await eventually(lambda: "draining" in process.output)
            before = load.answered
            await eventually(lambda: load.answered > before + 50)
            assert (await http.get(f"{process.url}/readyz")).status_code == 503
            assert (await http.get(f"{process.url}/livez")).status_code == 200
        assert await asyncio.to_thread(process.wait) == 0
        assert slow.result().json() == "slow"
        assert load.lost == []
        assert load.refused == 8


async def test_a_second_signal_stops_it_now(tmp_path: Path, http: httpx2.AsyncClient) -> None:
    with ServiceProcess(tmp_path, SOURCE, {"SEAWALL_DRAIN_SECONDS": "30"}) as process:
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(_outcome(http, f"{process.url}/slow/30"))
            await eventually_async(lambda: _in_flight(http, process.url, 1))
            process.signal(signal.SIGTERM)
            await eventually(lambda: "draining" in process.output)
            process.signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 20.0) == 1
        assert slow.result() == "503"


async def _outcome(http: httpx2.AsyncClient, url: str) -> str:
    try:
        return str((await http.get(url, timeout=20)).status_code)
    except httpx2.TransportError:
        return "lost"


async def _in_flight(http: httpx2.AsyncClient, url: str, number: int) -> bool:
    text = (await http.get(f"{url}/metrics")).text
    return f'http_server_active_requests{{service="orders"}} {number}.0' in text


async def test_what_does_not_end_is_cut_when_the_drain_ends(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    env = {"SEAWALL_DRAIN_SECONDS": "0.5", "SEAWALL_PROPAGATION_SECONDS": "0"}
    with ServiceProcess(tmp_path, SOURCE, env) as process:
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(_outcome(http, f"{process.url}/slow/30"))
            await eventually_async(lambda: _in_flight(http, process.url, 1))
            process.signal(signal.SIGINT)
            assert await asyncio.to_thread(process.wait, 5.0) == 0
        assert slow.result() == "503"


async def test_the_listening_socket_may_be_inherited(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, number = listener.getsockname()[1], listener.fileno()
        env = {"PORT": str(port), "SEAWALL_LISTEN_FD": str(number)}
        with ServiceProcess(tmp_path, SOURCE, env, pass_fds=(number,)) as process:
            assert (await http.get(f"{process.url}/fast")).json() == "fast"
            process.signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait) == 0
        # Held by us, it outlives the process: a successor answers what came meanwhile.
        successor = ServiceProcess(tmp_path, SOURCE, env, pass_fds=(number,))
        async with asyncio.TaskGroup() as tasks:
            meanwhile = tasks.create_task(http.get(f"{process.url}/fast"))
            await asyncio.to_thread(successor.start)
        with successor:
            assert meanwhile.result().json() == "fast"


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = ServiceProcess(tmp_path, SOURCE, {"PORT": port})
        with pytest.raises(AssertionError, match="Address already in use"):
            process.start()
        assert process.wait() == 2


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("from seawall import Service\nservice = Service('orders', version='x')", "not a version"),
        ("service = None", "has no application service"),
        (
            "from seawall import Service\nservice = Service('orders')\n"
            "@service.on_start\nasync def boom():\n    raise RuntimeError('no key')",
            "no key",
        ),
    ],
)
def test_a_service_that_cannot_start_says_why(tmp_path: Path, source: str, says: str) -> None:
    process = ServiceProcess(tmp_path, source)
    with pytest.raises(AssertionError, match=says):
        process.start()
    assert process.wait() != 0


async def test_output_that_is_gone_does_not_end_it(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # nobody reads any more
    process = ServiceProcess(tmp_path, SOURCE, stdout=writing)
    try:
        process.spawn()
        os.close(writing)

        async def answers() -> bool:
            return await _outcome(http, f"{process.url}/fast") == "200"

        await eventually_async(answers, within=15.0)
        process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait) == 0
    finally:
        process.kill()


@pytest.mark.parametrize("kind", ["serve", "uvicorn"])
async def test_it_is_registered_while_it_listens_and_is_ready(
    tmp_path: Path, unique: str, valkey: servers.RespServer, kind: str
) -> None:
    url = f"{valkey.url}?namespace={unique}"
    env = {
        "SEAWALL_REGISTRY__URL": url,
        "SEAWALL_INSTANCE_ID": "orders-7",
        "SEAWALL_PROPAGATION_SECONDS": "0.3",
    }
    command = None
    if kind == "uvicorn":
        command = [sys.executable, "-m", "uvicorn", "app:service", "--port", "{port}"]
        env["PORT"] = ""
    registry = open_registry(url)
    async with Watcher(registry) as watcher:
        seen: list[InstanceState] = []
        watcher.subscribe(lambda view: seen.extend(i.state for i in view.instances))
        until = "listening on" if kind == "serve" else "running on"
        process = ServiceProcess(tmp_path, SOURCE, env, command=command)
        try:
            await asyncio.to_thread(lambda: process.start(until=until))
            await eventually(lambda: len(watcher.view.instances) == 1)
            (instance,) = watcher.view.instances
            assert (instance.service, instance.version) == ("orders", "1.2.0")
            assert instance.instance_id == "orders-7"
            assert instance.address.port == process.port
            assert instance.needs == ("stock",)
            process.signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait)
            await eventually(lambda: watcher.view.instances == ())
            assert seen[0] is InstanceState.READY
            assert InstanceState.DRAINING in seen
        finally:
            process.kill()
    await registry.aclose()


async def test_a_killed_replica_costs_no_request_that_may_be_repeated(
    tmp_path: Path, unique: str, valkey: servers.RespServer
) -> None:
    url = f"{valkey.url}?namespace={unique}"
    registry = open_registry(url)
    processes = [
        ServiceProcess(
            tmp_path, SOURCE, {"SEAWALL_REGISTRY__URL": url, "SEAWALL_INSTANCE_ID": f"orders-{n}"}
        )
        for n in (1, 2)
    ]
    try:
        for process in processes:
            await asyncio.to_thread(process.start)
        async with Watcher(registry) as watcher:
            client = Client("orders")
            facts: list[object] = []
            client.open(watcher, facts.append)
            await eventually(lambda: len(watcher.view.instances) == 2)
            failures: list[SeawallError] = []

            async def ask() -> None:
                for _ in range(100):
                    try:
                        assert (await client.get("/fast")).ok
                    except SeawallError as exc:
                        failures.append(exc)

            async with asyncio.TaskGroup() as tasks:
                asking = [tasks.create_task(ask()) for _ in range(8)]
                await eventually(lambda: len(facts) > 100)
                processes[0].kill()
            assert all(task.done() for task in asking)
            assert failures == []
            assert any(isinstance(fact, Retried) for fact in facts)
            client.close()
    finally:
        for process in processes:
            process.kill()
        await registry.aclose()


async def _all_handled(http: httpx2.AsyncClient, url: str, accepted: list[int]) -> None:
    async def all_handled() -> bool:
        rows: list[int] = (await http.get(f"{url}/rows")).json()
        return rows == accepted

    await eventually_async(all_handled, within=15.0)


async def test_a_broker_that_is_killed_under_load_loses_nothing(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    broker = await asyncio.to_thread(servers.valkey)
    env = {"SEAWALL_MESSAGES__URL": broker.url, "SEAWALL_REGISTRY__URL": broker.url}
    process = ServiceProcess(tmp_path, SOURCE, env)
    try:
        await asyncio.to_thread(process.start)
        accepted: list[int] = []
        for n in range(60):
            if n == 20:
                await asyncio.to_thread(broker.kill)
            if n == 40:
                await asyncio.to_thread(broker.start)
            answer = await http.post(f"{process.url}/orders/{n}")
            assert answer.status_code == 200  # orders are taken whoever else is down
            accepted.append(n)
        await _all_handled(http, process.url, accepted)
        assert (await http.get(f"{process.url}/readyz")).status_code == 200
        process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait) == 0
    finally:
        process.kill()
        await asyncio.to_thread(broker.stop)


async def test_it_starts_without_broker_and_registry_and_makes_good(
    tmp_path: Path, http: httpx2.AsyncClient
) -> None:
    broker = await asyncio.to_thread(servers.valkey)
    await asyncio.to_thread(broker.kill)
    env = {"SEAWALL_MESSAGES__URL": broker.url, "SEAWALL_REGISTRY__URL": broker.url}
    process = ServiceProcess(tmp_path, SOURCE, env)
    registry = open_registry(broker.url)
    try:
        await asyncio.to_thread(process.start)

        async def ready() -> bool:  # once the registry was asked in vain
            return (await http.get(f"{process.url}/readyz")).status_code == 200

        await eventually_async(ready)
        assert (await http.post(f"{process.url}/orders/1")).status_code == 200
        await asyncio.to_thread(broker.start)
        await _all_handled(http, process.url, [1])

        async def registered() -> bool:
            return [i.service for i in await registry.read()] == ["orders"]

        await eventually_async(registered, within=15.0)
    finally:
        process.kill()
        await registry.aclose()
        await asyncio.to_thread(broker.stop)
