"""Sessions when their server is away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from seawall.clock import SYSTEM
from seawall.errors import Unavailable
from seawall.identity.sessions import SessionRules
from seawall.identity.sessions_valkey import ValkeySessions
from tests.support import servers
from tests.support.waiting import eventually_async


@pytest.fixture
def server() -> Iterator[servers.RespServer]:
    started = servers.valkey()
    yield started
    started.stop()


Opened = Callable[[ValkeySessions], ValkeySessions]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Closes what it is given at the end, whatever the test comes to."""
    async with AsyncExitStack() as stack:

        def keep(sessions: ValkeySessions) -> ValkeySessions:
            stack.push_async_callback(sessions.aclose)
            return sessions

        yield keep


async def test_sessions_survive_a_killed_server(opened: Opened, server: servers.RespServer) -> None:
    sessions = opened(ValkeySessions(server.url))
    made = await sessions.create({"cart": [1]})
    server.kill()
    for call in (sessions.load(made.session_id), sessions.create({}), sessions.save(made, {})):
        with pytest.raises(Unavailable):
            await call
    await asyncio.to_thread(server.start)
    assert await sessions.load(made.session_id) == made


async def test_a_paused_server_hangs_nobody(opened: Opened, server: servers.RespServer) -> None:
    sessions = opened(ValkeySessions(server.url, patience=1.0))
    made = await sessions.create({"n": 1})
    server.pause()
    began = SYSTEM.now()
    with pytest.raises(Unavailable):
        await sessions.load(made.session_id)
    assert SYSTEM.now() - began < 5.0
    server.resume()

    async def back() -> bool:
        return await sessions.load(made.session_id) == made

    await eventually_async(back)


async def test_touching_writes_no_data(opened: Opened, server: servers.RespServer) -> None:
    """What a load costs the server does not grow with the session."""
    sessions = opened(ValkeySessions(server.url, SessionRules(idle=60)))
    made = await sessions.create({"x": "y" * 10_000})

    def written() -> int:
        log = server.folder / "appendonlydir"
        return sum(file.stat().st_size for file in log.iterdir())

    before = written()
    for _ in range(20):
        await sessions.load(made.session_id)
    assert written() - before < 20 * 250
