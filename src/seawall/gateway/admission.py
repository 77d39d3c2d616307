"""Whether a request may go on to a service that has enough to do, and who waits first.

A `Gate` stands before each route that has a bulkhead or an importance of its own, or whose
service is limited here (`seawall.resilience.admission`). It does not queue: what waits here would
be late, and the client can wait as well. The service hears how important a request is.
"""

from typing import TYPE_CHECKING, Final

from seawall.gateway.answers import Answer, Flag, unavailable
from seawall.resilience.admission import Admission
from seawall.resilience.shed import Importance
from seawall.wire import headers

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

# What a client that is shed is told: a window of samples later there may be room.
RETRY_AFTER: Final = 1.0  # seconds

# The statuses by which a service itself says that it has too much to do.
OVERLOAD: Final = frozenset((429, 503))

NORMAL: Final = Importance.NORMAL.value

# How a service says so that is well: it refused this one, and neither its breaker nor that of its
# instance is to hear of it.
SHED: Final = b"x-load-shed"

IMPORTANCES: Final = {one.value.encode(): one.value for one in Importance}


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
        if importance != NORMAL:  # which is what a service takes a request for that says nothing
            exchange.head.lines.append(b"x-importance: " + importance.encode())
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
