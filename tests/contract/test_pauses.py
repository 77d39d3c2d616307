"""What `seawall.registry.pauses.Pauses` promises, for every implementation."""

from collections.abc import AsyncIterator, Callable

import pytest

from seawall.errors import Misconfigured, Unavailable
from seawall.registry.pauses import Pause, Pauses, open_pauses

Opener = Callable[[], Pauses]


@pytest.fixture
async def opener(space: str) -> AsyncIterator[Opener]:
    """Opens handles on the pauses of one registry of this test's own."""
    opened: list[Pauses] = []

    def open_one() -> Pauses:
        opened.append(open_pauses(space))
        return opened[-1]

    yield open_one
    for pauses in opened:
        await pauses.aclose()
        await pauses.aclose()  # twice is fine


PAUSE = Pause("order.placed", "mail: ż", 1_700_000_000.25, by="jo@desk", why='"why" not?\n')


async def test_nothing_is_paused_at_first(opener: Opener) -> None:
    assert list(await opener().read()) == []


async def test_everybody_reads_who_paused_what_and_when(opener: Opener) -> None:
    assert await opener().add(PAUSE)
    assert list(await opener().read()) == [PAUSE]


async def test_a_second_pause_changes_nothing(opener: Opener) -> None:
    pauses = opener()
    await pauses.add(PAUSE)
    assert not await pauses.add(Pause(PAUSE.topic, PAUSE.group, 5.0, by="other"))
    assert list(await pauses.read()) == [PAUSE]


async def test_groups_are_paused_apart(opener: Opener) -> None:
    pauses = opener()
    others = {("order.placed", "x"), ("order", "placed/mail"), ("order/placed", "mail")}
    await pauses.add(PAUSE)
    for topic, group in others:
        await pauses.add(Pause(topic, group, 1.0))
    assert await pauses.remove(PAUSE.topic, PAUSE.group)
    assert {(each.topic, each.group) for each in await pauses.read()} == others


async def test_only_what_is_paused_can_go_on(opener: Opener) -> None:
    pauses = opener()
    await pauses.add(PAUSE)
    assert not await pauses.remove("order.placed", "other")
    assert await pauses.remove(PAUSE.topic, PAUSE.group)
    assert not await pauses.remove(PAUSE.topic, PAUSE.group)
    assert list(await pauses.read()) == []


async def test_a_registry_that_is_away_says_so() -> None:
    pauses = open_pauses("redis://127.0.0.1:1")
    with pytest.raises(Unavailable):
        await pauses.read()
    await pauses.aclose()


def test_only_a_registry_keeps_pauses() -> None:
    with pytest.raises(Misconfigured):
        open_pauses("amqp://127.0.0.1")
