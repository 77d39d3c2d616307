"""What `seawall.identity.sessions.Sessions` promises, for every implementation."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from seawall.clock import SYSTEM
from seawall.identity.sessions import (
    MAX_SESSION,
    Session,
    SessionConflict,
    SessionLost,
    SessionRules,
    Sessions,
    SessionTooLarge,
    new_session_id,
    open_sessions,
)
from tests.support.waiting import eventually_async

Opener = Callable[[SessionRules | None], Sessions]


@pytest.fixture
async def opener(space: str) -> AsyncIterator[Opener]:
    opened: list[Sessions] = []

    def open_one(rules: SessionRules | None = None) -> Sessions:
        opened.append(open_sessions(space, rules))
        return opened[-1]

    yield open_one
    for sessions in opened:
        await sessions.aclose()
        await sessions.aclose()


@pytest.fixture
def sessions(opener: Opener) -> Sessions:
    return opener(None)


async def test_what_one_replica_creates_another_loads(sessions: Sessions, opener: Opener) -> None:
    made = await sessions.create({"cart": ["a", 1], "who": "ä"})
    found = await opener(None).load(made.session_id)
    assert found == made == Session(made.session_id, {"cart": ["a", 1], "who": "ä"}, 1)


async def test_names_are_long_and_their_own(sessions: Sessions) -> None:
    names = {(await sessions.create({})).session_id for _ in range(20)}
    assert len(names) == 20
    assert {len(name) for name in names} == {43}


@pytest.mark.parametrize(
    "name", ["", "x", "../../etc", "a" * 43, "a" * 10_000, "ä" * 43, "a\r\n" + "b" * 40, "*"]
)
async def test_what_is_no_session_is_none(sessions: Sessions, name: str) -> None:
    assert await sessions.load(name) is None
    await sessions.end(name)
    with pytest.raises(SessionLost):
        await sessions.save(Session(name if len(name) == 43 else new_session_id(), {}), {})


async def test_save_replaces_and_counts(sessions: Sessions) -> None:
    made = await sessions.create({"n": 1})
    saved = await sessions.save(made, {"n": 2})
    assert saved.version == 2
    assert await sessions.load(made.session_id) == saved


async def test_an_update_is_not_lost(sessions: Sessions) -> None:
    made = await sessions.create({"n": 0})

    async def increase() -> None:
        while True:
            session = await sessions.load(made.session_id)
            assert session is not None
            try:
                await sessions.save(session, {"n": session.data["n"] + 1})
            except SessionConflict:
                continue
            return

    await asyncio.gather(*(increase() for _ in range(10)))
    found = await sessions.load(made.session_id)
    assert found is not None
    assert found.data == {"n": 10}


async def test_rotation_makes_the_old_name_worthless(sessions: Sessions) -> None:
    planted = await sessions.create({"cart": [1]})
    inside = await sessions.rotate(planted, {"cart": [1], "user": "ann"})
    assert inside.session_id != planted.session_id
    assert await sessions.load(planted.session_id) is None
    assert await sessions.load(inside.session_id) == inside
    with pytest.raises(SessionLost):
        await sessions.save(planted, {})


async def test_only_one_of_two_log_ins_rotates(sessions: Sessions) -> None:
    made = await sessions.create({})
    await sessions.rotate(made, {"user": "ann"})
    with pytest.raises(SessionLost):
        await sessions.rotate(made, {"user": "eve"})


async def test_a_conflicting_rotation_changes_nothing(sessions: Sessions) -> None:
    made = await sessions.create({})
    saved = await sessions.save(made, {"n": 1})
    with pytest.raises(SessionConflict):
        await sessions.rotate(made, {"user": "eve"})
    assert await sessions.load(made.session_id) == saved


async def test_ended_is_gone(sessions: Sessions) -> None:
    made = await sessions.create({})
    await sessions.end(made.session_id)
    await sessions.end(made.session_id)
    assert await sessions.load(made.session_id) is None


async def test_an_idle_session_expires_and_a_used_one_does_not(opener: Opener) -> None:
    sessions = opener(SessionRules(idle=0.4))
    used, idle = await sessions.create({}), await sessions.create({})
    began = SYSTEM.now()
    while SYSTEM.now() - began < 0.8:
        assert await sessions.load(used.session_id)
        await SYSTEM.sleep(0.05)
    assert await sessions.load(idle.session_id) is None
    with pytest.raises(SessionLost):
        await sessions.save(idle, {})


async def test_a_life_ends_however_busy(opener: Opener) -> None:
    sessions = opener(SessionRules(idle=0.3, lifetime=0.3))
    session = await sessions.create({})
    session = await sessions.rotate(session, {"n": 1})  # does not begin a new life

    async def over() -> bool:
        return await sessions.load(session.session_id) is None

    assert not await over()
    await eventually_async(over, within=2.0)


@pytest.mark.parametrize("data", [{"x": "y" * MAX_SESSION}, {"x": object()}, {"x": float("nan")}])
async def test_what_is_too_large_or_no_json_is_refused(
    sessions: Sessions, data: dict[str, object]
) -> None:
    with pytest.raises(SessionTooLarge):
        await sessions.create(data)
    made = await sessions.create({"n": 1})
    for change in (sessions.save, sessions.rotate):
        with pytest.raises(SessionTooLarge):
            await change(made, data)
    assert await sessions.load(made.session_id) == made


async def test_loaded_data_is_a_copy(sessions: Sessions) -> None:
    made = await sessions.create({"list": [1]})
    made.data["list"].append(2)
    found = await sessions.load(made.session_id)
    assert found is not None
    assert found.data == {"list": [1]}


def test_the_name_is_not_printed() -> None:
    assert "secret" not in repr(Session("secret", {}))
