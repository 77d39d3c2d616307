"""Consumers follow what an operator paused."""

from dataclasses import dataclass, field

from seawall.concurrency.tasks import running
from seawall.errors import Unavailable
from seawall.messaging.base import Subscription
from seawall.registry.pauses import MemoryPauses, Pause
from seawall.service.pauses import ASK_EVERY, FIRST_WITHIN, PauseWatch
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually

ONE, TWO = Subscription("t", "one"), Subscription("t", "two")


@dataclass
class Switch:
    """A consumer that notes what it is told."""

    subscription: Subscription
    told: list[str] = field(default_factory=list)

    async def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


class Away(MemoryPauses):
    """A registry that cannot be reached for a while."""

    away = True

    async def read(self) -> tuple[Pause, ...]:
        if self.away:
            raise Unavailable("no registry")
        return tuple(await super().read())


class Silent(MemoryPauses):
    """A registry that takes a question and does not answer."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__("silent")
        self._clock = clock

    async def read(self) -> tuple[Pause, ...]:
        await self._clock.sleep(3600)
        return ()


def pause(subscription: Subscription) -> Pause:
    return Pause(subscription.topic, subscription.group, 1.0)


async def asked(clock: ManualClock) -> None:
    """Let the watch ask once more, and wait until it has."""
    await eventually(lambda: clock.sleeping == 1)
    clock.advance(ASK_EVERY)
    await eventually(lambda: clock.sleeping == 1)


async def test_a_pause_reaches_its_consumer_once_and_is_lifted_once(unique: str) -> None:
    pauses, clock = MemoryPauses(unique), ManualClock()
    one, two = Switch(ONE), Switch(TWO)
    watch = PauseWatch(pauses, lambda: [one, two], clock=clock)
    await watch.first()
    async with running(watch.follow()):
        await pauses.add(pause(ONE))
        await asked(clock)
        await asked(clock)
        assert (one.told, two.told) == (["pause"], [])
        await pauses.remove("t", "one")
        await asked(clock)
        await asked(clock)
    assert (one.told, two.told) == (["pause", "resume"], [])


async def test_what_is_paused_already_is_known_before_anything_starts(unique: str) -> None:
    pauses = MemoryPauses(unique)
    await pauses.add(pause(TWO))
    watch = PauseWatch(pauses, list, clock=ManualClock())
    await watch.first()
    assert watch.paused == {TWO}


async def test_while_the_registry_is_away_all_stays_as_it_was(unique: str) -> None:
    pauses, clock, one = Away(unique), ManualClock(), Switch(ONE)
    watch = PauseWatch(pauses, lambda: [one], clock=clock)
    await watch.first()
    await pauses.add(pause(ONE))
    async with running(watch.follow()):
        await asked(clock)
        assert one.told == []
        pauses.away = False
        await asked(clock)
        assert one.told == ["pause"]
        pauses.away = True
        await asked(clock)
    assert one.told == ["pause"]


async def test_a_start_does_not_wait_long_for_the_registry() -> None:
    clock = ManualClock()
    watch = PauseWatch(Silent(clock), list, clock=clock)
    async with running(watch.first()) as first:
        await eventually(lambda: clock.sleeping == 2)
        clock.advance(FIRST_WITHIN)
        await eventually(first.done)
    assert watch.paused == frozenset()
