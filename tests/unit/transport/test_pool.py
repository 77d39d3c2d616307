"""The pool against a server of this process that answers as told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from seawall.errors import Full, NotSent
from seawall.testing.clock import ManualClock
from seawall.topology import Address
from seawall.transport.http1 import Answer, request_head
from seawall.transport.pool import ConnectFailed, Pool, PoolConfig, PoolSnapshot
from tests.support.servers import free_port
from tests.support.waiting import eventually

HEAD = request_head("GET", "/", "a", [("x", "y")], None)


class Server:
    def __init__(self) -> None:
        self.connections = 0
        self.release = asyncio.Event()
        self.release.set()
        self.address = Address("", 0)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await self.release.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    found = Server()
    server = await asyncio.start_server(found, "127.0.0.1", 0)
    found.address = Address(*server.sockets[0].getsockname()[:2])
    async with server:
        yield found
        found.release.set()
        server.close()


async def ask(pool: Pool, within: float = 1.0) -> Answer:
    return await pool.exchange(HEAD, b"", within=within, method="GET")


async def test_one_connection_serves_one_after_the_other() -> None:
    async with serving() as server:
        pool = Pool(server.address)
        for _ in range(3):
            assert (await ask(pool)).body == b"ok"
        assert server.connections == 1
        assert pool.snapshot() == PoolSnapshot(0, 1, 0)
        pool.close()
        with pytest.raises(NotSent, match="the pool is closed"):
            await ask(pool)


async def test_places_are_bounded_and_passed_on_in_order() -> None:
    async with serving() as server:
        server.release.clear()
        pool = Pool(server.address, PoolConfig(limit=2, waiting=2))
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(ask(pool)) for _ in range(4)]
            await eventually(lambda: pool.snapshot() == PoolSnapshot(2, 0, 2))
            with pytest.raises(Full, match="2 callers wait"):
                await ask(pool)
            server.release.set()
        assert all(task.result().status == 200 for task in asking)
        assert server.connections == 2
        assert pool.snapshot() == PoolSnapshot(0, 2, 0)
        pool.close()


async def test_waiting_ends_in_time_and_gives_its_place_up() -> None:
    async with serving() as server:
        server.release.clear()
        pool = Pool(server.address, PoolConfig(limit=1))
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(ask(pool, 5.0))
            await eventually(lambda: pool.active == 1)
            with pytest.raises(Full, match="no free connection within"):
                await ask(pool, 0.02)
            second = tasks.create_task(ask(pool, 5.0))
            third = tasks.create_task(ask(pool, 5.0))
            await eventually(lambda: pool.snapshot().waiting == 2)
            second.cancel()
            server.release.set()
        assert first.result().status == third.result().status == 200
        assert pool.snapshot() == PoolSnapshot(0, 1, 0)
        pool.close()


async def test_cancelled_at_any_await_it_gives_everything_back() -> None:
    async with serving() as server:
        pool = Pool(server.address, PoolConfig(limit=1))
        for turns in range(12):
            task = asyncio.get_running_loop().create_task(ask(pool))
            for _ in range(turns):
                await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await _result(task)
            assert pool.active == 0
        assert (await ask(pool)).status == 200
        pool.close()


async def _result(task: "asyncio.Task[Answer]") -> None:
    await task
    raise asyncio.CancelledError  # it was done before it could be cancelled


async def test_an_old_connection_is_not_used_again() -> None:
    clock = ManualClock()
    async with serving() as server:
        pool = Pool(server.address, PoolConfig(idle_for=4.0), clock=clock)
        await ask(pool)
        clock.advance(3.9)
        await ask(pool)
        assert server.connections == 1
        clock.advance(4.1)
        await ask(pool)
        assert server.connections == 2
        pool.close()


async def test_nobody_there_is_not_sent() -> None:
    pool = Pool(Address("127.0.0.1", free_port()))
    with pytest.raises(ConnectFailed, match=r"refused|Connect call failed"):
        await ask(pool)
    assert pool.active == 0


@pytest.mark.parametrize("bad", ["a\r\nb", "a\nb", "a\rb", "a\0b"])
def test_nothing_breaks_out_of_its_line(bad: str) -> None:
    for method, target, authority, fields in (
        (bad, "/", "h", []),
        ("GET", bad, "h", []),
        ("GET", "/", bad, []),
        ("GET", "/", "h", [(bad, "v")]),
        ("GET", "/", "h", [("n", bad)]),
    ):
        with pytest.raises(ValueError, match="line break"):
            request_head(method, target, authority, fields, 0)
