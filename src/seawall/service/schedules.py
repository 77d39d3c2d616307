"""What happens at times: each tick once for all replicas of a service, as a message in a queue.

A tick becomes a message by the replica whose turn it is (the turns are beside the registry, so
this is the same for every broker); handling it is work as any other, with retries and dead
letters. The one that fires marks the tick when the broker has stored the message. If it dies in
between, another fires again with the same message id: at least once, and with `tx` in effect once.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from seawall.clock import SYSTEM, Clock
from seawall.errors import SeawallError
from seawall.facts import Observer
from seawall.messaging.base import Message
from seawall.messaging.ticks import Missed, Ticks, due
from seawall.registry.turns import Turns
from seawall.service import publishing
from seawall.service.events import Event

# A turn is for publishing one message; whoever died in it holds up the others as long.
TURN = 15.0  # seconds

# How soon it is looked again whether the one whose turn it was has fired.
LOOK = 1.0  # seconds

# The longest sleep: the wall clock may be set, and a machine may have been asleep.
LONGEST = 30.0  # seconds

Publish = Callable[[str, Message], Awaitable[None]]


class Tick(Event):
    """What a scheduled handler is given, if it wants it."""

    schedule: str
    at: datetime  # when it was due; handled later


@dataclass(frozen=True, slots=True)
class Schedule:
    """One declared schedule; its ticks are messages on `topic`."""

    name: str  # with the service's
    topic: str
    ticks: Ticks
    missed: Missed


@dataclass(frozen=True, slots=True)
class TickFired:
    """A tick became a message, so many seconds late."""

    schedule: str
    at: float
    late: float


@dataclass(frozen=True, slots=True)
class TicksDelayed:
    """Ticks cannot be fired now: their store or the broker is away."""

    schedule: str
    error: str


class Firing:
    """Fires the ticks of one service's schedules, in turn with its other replicas."""

    def __init__(
        self,
        source: str,
        holder: str,
        turns: Turns,
        publish: Publish,
        *,
        observer: Observer,
        clock: Clock = SYSTEM,
    ) -> None:
        self._source = source
        self._holder = holder
        self._turns = turns
        self._publish = publish
        self._observer = observer
        self._clock = clock

    async def run(self, schedule: Schedule) -> None:
        """Fire what is due, for ever."""
        while True:
            try:
                waits_for_another = not await self._round(schedule)
            except SeawallError as error:
                self._observer(TicksDelayed(schedule.name, str(error)))
                waits_for_another = True
            if waits_for_another:
                await self._clock.sleep(LOOK)
                continue
            now = self._clock.wall()
            await self._clock.sleep(min(LONGEST, max(0.0, schedule.ticks.after(now) - now)))

    async def _round(self, schedule: Schedule) -> bool:
        """Fire the tick that is due, if one is; False if it is due and another's turn."""
        turns, name, now = self._turns, schedule.name, self._clock.wall()
        last = await turns.marked(name)
        if last is None:  # the first start ever: what was before was not missed
            await turns.mark(name, schedule.ticks.until(now))
            return True
        tick = due(schedule.ticks, last, now, schedule.missed)
        if tick is None:
            return True
        if not await turns.take(name, self._holder, TURN):
            return False
        try:
            last = await turns.marked(name)
            if last is None or last < tick:
                await self._fire(schedule, tick)
        finally:
            await turns.give(name, self._holder)
        return True

    async def _fire(self, schedule: Schedule, tick: float) -> None:
        at = datetime.fromtimestamp(tick, UTC)
        message = publishing.message(
            self._source,
            schedule.topic,
            Tick(schedule=schedule.name, at=at),
            message_id=f"{schedule.name}@{at.isoformat()}",
        )
        await self._publish(schedule.topic, message)
        await self._turns.mark(schedule.name, tick)
        self._observer(TickFired(schedule.name, tick, self._clock.wall() - tick))
