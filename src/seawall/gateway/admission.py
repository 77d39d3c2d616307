"""Whether a request may go on to a service that has enough to do, and who waits first.

A `Gate` stands before each route that has a bulkhead of its own or whose service limits itself.
An `Admission` is one service's: a limit on requests at once that finds itself from how long
answers take (`seawall.resilience.adaptive`), shared by importance (`seawall.resilience.shed`).
Neither queues: what waits here would be late, and the client can wait as well.
"""

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from seawall.errors import Misconfigured
from seawall.gateway.answers import Answer, Flag, unavailable
from seawall.resilience.adaptive import (
    Aimd,
    AimdConfig,
    ConcurrencyLimit,
    Fixed,
    Gradient2,
    Gradient2Config,
    Vegas,
    VegasConfig,
)
from seawall.resilience.sampling import WindowConfig, Windowed
from seawall.resilience.shed import Importance, Partitions, PartitionSnapshot, Shedding
from seawall.wire import headers

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

KINDS: Final = ("gradient2", "vegas", "aimd", "fixed")

# What a client that is shed is told: a window of samples later there may be room.
RETRY_AFTER: Final = 1.0  # seconds

# The statuses by which a service itself says that it has too much to do.
OVERLOAD: Final = frozenset((429, 503))

IMPORTANCES: Final = {one.value.encode(): one.value for one in Importance}


@dataclass(frozen=True, kw_only=True, slots=True)
class Adaptive:
    """A limit on a service's requests at once. Raises `Misconfigured`.

    `gradient2` compares answer times with their own average, `vegas` with the fastest seen, `aimd`
    only looks at timeouts and refusals, `fixed` stays at `initial`. It is of one gateway process.
    """

    kind: str = "gradient2"
    initial: int = 20
    minimum: int = 20  # below it nothing is learned; not for vegas, which goes down to 1
    maximum: int = 200
    window: float = 1.0  # seconds of answers that make one sample

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise Misconfigured(
                f"no adaptive limit is called {self.kind!r}", fix=" or ".join(KINDS)
            )
        if self.minimum < 1:
            raise Misconfigured(f"minimum is 1 or more, not {self.minimum}")
        self.limit(Random(0))
        self.sampling()

    def limit(self, rng: Random) -> ConcurrencyLimit:
        """The algorithm, as it begins."""
        initial, minimum, maximum = self.initial, self.minimum, self.maximum
        if self.kind == "fixed":
            return Fixed(initial)
        if self.kind == "vegas":
            return Vegas(rng, VegasConfig(initial=initial, maximum=maximum))
        if self.kind == "aimd":
            return Aimd(AimdConfig(initial=initial, minimum=minimum, maximum=maximum))
        return Gradient2(Gradient2Config(initial=initial, minimum=minimum, maximum=maximum))

    def sampling(self) -> WindowConfig:
        return WindowConfig(shortest=self.window, longest=self.window)


class Admission:
    """One service's limit, and how many of which importance are under way."""

    __slots__ = ("_limit", "_places", "_rng", "_shed", "_shedding")

    def __init__(self, config: Adaptive, rng: Random) -> None:
        self._rng: Random = rng
        self._limit: Windowed = Windowed(config.limit(rng), config.sampling())
        self._places: Partitions = Partitions(self._limit.limit)
        self._shedding: Shedding = Shedding()
        self._shed: dict[str, int] = {one.value: 0 for one in Importance}

    @property
    def limit(self) -> int:
        return self._places.limit

    def admit(self, importance: str) -> bool:
        """Take a place; give it back with `release`.

        Each importance can have its share whatever the others do. What is left goes to the most
        important: as it fills up, the less important are refused before it is full.
        """
        places = self._places
        taken = places.taken / places.limit
        sheds = not places.has_share(importance) and self._shedding.sheds(
            importance, taken, self._rng
        )
        if not sheds and places.try_acquire(importance):
            return True
        self._shed[importance] += 1
        return False

    def release(self, importance: str) -> None:
        self._places.release(importance)

    def observe(self, seconds: float, dropped: bool, now: float) -> None:
        """A request was answered after `seconds`, or `dropped`: not in time, or for overload."""
        limit = self._limit.sample(seconds, self._places.taken, dropped, now)
        if limit is not None:
            self._places.resize(max(1, limit))

    def shed(self) -> dict[str, int]:
        """How many were refused, by importance."""
        return dict(self._shed)

    def snapshot(self) -> tuple[PartitionSnapshot, ...]:
        return self._places.snapshot()

    def __repr__(self) -> str:
        return f"<Admission {self._places!r}>"


class Gate:
    """What a request passes on its way to a service, where there is anything to pass."""

    __slots__ = ("_label", "admission", "importance", "in_flight", "limit")

    def __init__(
        self, label: str, limit: int | None, importance: str, admission: Admission | None
    ) -> None:
        self._label: str = label
        self.limit: int = -1 if limit is None else limit
        self.importance: str = importance
        self.admission: Admission | None = admission
        self.in_flight: int = 0

    def enter(self, importance: str) -> Answer | None:
        """None to let the request pass: then `leave`. Or the answer to give instead."""
        if self.in_flight == self.limit:
            detail = f"{self.in_flight} requests to {self._label} are under way"
            return unavailable(Flag.UPSTREAM_OVERFLOW, detail, RETRY_AFTER)
        admission = self.admission
        if admission is not None and not admission.admit(importance):
            detail = f"the service has enough to do; {importance} requests wait"
            return unavailable(Flag.SHED, detail, RETRY_AFTER)
        self.in_flight += 1
        return None

    def yield_place(self, importance: str) -> None:
        """A stream has begun: it is under way, but not work that others wait for."""
        if self.admission is not None:
            self.admission.release(importance)

    def leave(self, importance: str) -> None:
        """The request is over; `importance` is empty if its place was yielded."""
        self.in_flight -= 1
        if self.admission is not None and importance:
            self.admission.release(importance)

    def observe(self, seconds: float, dropped: bool, now: float) -> None:
        if self.admission is not None:
            self.admission.observe(seconds, dropped, now)


def enter(exchange: "Exchange", gate: Gate) -> Answer | None:
    """Pass the gate; or the answer to give instead. Its place is given back where it ends."""
    importance = gate.importance
    if exchange.down.trusted:
        said = exchange.head.boundary.get(headers.IMPORTANCE, b"")
        importance = IMPORTANCES.get(said, importance)
    refusal = gate.enter(importance)
    if refusal is None:
        exchange.gate = gate
        exchange.importance = importance
    return refusal


def yield_place(exchange: "Exchange") -> None:
    """What goes on is not work of the service that others wait for."""
    gate, importance = exchange.gate, exchange.importance
    if gate is not None and importance:
        gate.yield_place(importance)
        exchange.importance = ""


def observe(exchange: "Exchange", seconds: float, dropped: bool, now: float) -> None:
    """The service took so long; `dropped`: too long, or it had too much to do itself."""
    if exchange.gate is not None and not exchange.fell_back:
        exchange.gate.observe(seconds, dropped, now)
