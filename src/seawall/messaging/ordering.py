"""Messages of one key, one after the other; those of other keys go on. Pure.

A failed message is not sent back to the broker: what follows it would overtake it. It waits here,
and its key with it, for `max_block` seconds at most. Then the key is given up as `then` says.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from seawall.errors import Misconfigured

# Parked keys that are remembered; beyond it the first one is forgotten, and its messages are
# handled again. An operator who has more broken keys than this has one broken handler.
PARKED = 10_000

D = TypeVar("D")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ordered:
    """What becomes of a key whose message fails.

    `park`: the message goes to the dead letters and so does what follows it, until it is sent
    again (redriven). `skip`: only the message goes there, and the next one is handled.

    Where the broker does not give all messages of a key to one member of the group
    (`caps.ordered`), only a group of one member keeps their order: `alone` says that it is one.
    """

    max_block: float = 60.0  # seconds
    alone: bool = False
    then: Literal["park", "skip"] = "park"

    def __post_init__(self) -> None:
        if not self.max_block >= 0:
            raise Misconfigured(f"max_block is 0 seconds or more, not {self.max_block}")
        if self.then not in ("park", "skip"):
            raise Misconfigured(f"then is park or skip, not {self.then!r}")


@dataclass(slots=True)
class _Lane(Generic[D]):
    """One key: its head is being handled, or waits to be tried again."""

    waiting: deque[D] = field(default_factory=deque)
    failing_since: float | None = None


class Lanes(Generic[D]):
    """The keys that have messages here, each with one that may be handled.

    Bounded by its user: what was added is here until it is `finished`.
    """

    def __init__(self, rules: Ordered) -> None:
        self._rules = rules
        self._lanes: dict[str, _Lane[D]] = {}
        self._parked: OrderedDict[str, str] = OrderedDict()  # key -> the id that parked it
        self._waiting = 0

    def __len__(self) -> int:
        """How many wait for the one before them."""
        return self._waiting

    def __iter__(self) -> Iterator[D]:
        """Those that wait, each key in its order."""
        for lane in self._lanes.values():
            yield from lane.waiting

    def is_parked(self, key: str | None, message_id: str) -> bool:
        """Whether the key is parked; the message that parked it ends that by coming again."""
        parked_by = self._parked.get(key) if key is not None else None
        if key is None or parked_by is None:
            return False
        if parked_by == message_id:
            del self._parked[key]
            return False
        return True

    def add(self, key: str, item: D) -> bool:
        """True if `item` may be handled at once; else it is kept behind those before it."""
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = _Lane()
            return True
        lane.waiting.append(item)
        self._waiting += 1
        return False

    def finished(self, key: str) -> D | None:
        """The key's message is done, or dead: the one that may be handled now."""
        lane = self._lanes[key]
        lane.failing_since = None
        if not lane.waiting:
            del self._lanes[key]
            return None
        self._waiting -= 1
        return lane.waiting.popleft()

    def may_block(self, key: str, delay: float, now: float) -> bool:
        """Whether the key's message, which failed, may be tried again `delay` seconds from now."""
        lane = self._lanes[key]
        if lane.failing_since is None:
            lane.failing_since = now
        return now + delay - lane.failing_since <= self._rules.max_block

    @property
    def parks(self) -> bool:
        """Whether a key is parked when its message is given up."""
        return self._rules.then == "park"

    def park(self, key: str, message_id: str) -> list[D]:
        """The key's message is given up: those that go with it. Call `finished` afterwards."""
        self._parked[key] = message_id
        if len(self._parked) > PARKED:
            self._parked.popitem(last=False)
        lane = self._lanes[key]
        followers = list(lane.waiting)
        lane.waiting.clear()
        self._waiting -= len(followers)
        return followers

    def drop(self, gone: set[int]) -> None:
        """Forget the waiting ones whose `id()` is in `gone`: they are somebody else's now."""
        for lane in self._lanes.values():
            kept = [item for item in lane.waiting if id(item) not in gone]
            self._waiting -= len(lane.waiting) - len(kept)
            lane.waiting = deque(kept)

    def clear(self) -> list[D]:
        """Give up all that wait, in their order."""
        waiting = list(self)
        for lane in self._lanes.values():
            lane.waiting.clear()
        self._waiting = 0
        return waiting

    def __repr__(self) -> str:
        return f"<Lanes {len(self._lanes)} keys, {self._waiting} wait, {len(self._parked)} parked>"
