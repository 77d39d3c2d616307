"""Turns and marks: the same for memory and Valkey."""

from collections.abc import AsyncIterator

import pytest

from seawall.errors import Misconfigured, Unavailable
from seawall.registry.connect import open_turns
from seawall.registry.turns import Turns
from tests.support.servers import RespServer
from tests.support.waiting import eventually_async


@pytest.fixture(params=["memory", "valkey"])
def url(request: pytest.FixtureRequest, unique: str) -> str:
    if request.param == "memory":
        return f"memory://{unique}"
    server: RespServer = request.getfixturevalue("valkey")
    separator = "&" if "?" in server.url else "?"
    return f"{server.url}{separator}namespace={unique}"


@pytest.fixture
async def turns(url: str) -> AsyncIterator[Turns]:
    turns = open_turns(url)
    yield turns
    await turns.aclose()
    await turns.aclose()


async def test_a_turn_is_one_holders_until_it_gives_it(turns: Turns, url: str) -> None:
    other = open_turns(url)
    assert await turns.take("t", "a", 30)
    assert await turns.take("t", "a", 30)  # for longer
    assert not await other.take("t", "b", 30)
    assert await other.take("another", "b", 30)
    await other.give("t", "b")  # not b's to give
    assert not await other.take("t", "b", 30)
    await turns.give("t", "a")
    assert await other.take("t", "b", 30)
    await other.aclose()


async def test_a_turn_ends_by_itself(turns: Turns) -> None:
    assert await turns.take("t", "a", 0.05)
    await eventually_async(lambda: turns.take("t", "b", 30))
    assert not await turns.take("t", "a", 30)


async def test_marks_only_go_forward(turns: Turns) -> None:
    assert await turns.marked("m") is None
    await turns.mark("m", 1_764_115_200.25)
    await turns.mark("m", 1_764_115_200.0)
    assert await turns.marked("m") == 1_764_115_200.25
    await turns.mark("m", 1_764_115_260.0)
    assert await turns.marked("m") == 1_764_115_260.0
    assert await turns.marked("other") is None


async def test_a_store_that_is_away_says_so() -> None:
    turns = open_turns("redis://127.0.0.1:1/0")
    with pytest.raises(Unavailable):
        await turns.take("t", "a", 1)
    await turns.aclose()


def test_other_addresses_are_refused() -> None:
    with pytest.raises(Misconfigured):
        open_turns("ftp://x")
