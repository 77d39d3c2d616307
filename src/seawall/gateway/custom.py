"""Filters that users write: what they see of a request and an answer, and what they cost.

A filter gets a `Request` and the time, and returns None to let it pass or an answer to give. Here
it is held to that: what it raises becomes a 500 with a flag of its own, what takes too long is
counted and told, and every 64th call of each filter is timed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from seawall.facts import Observer
from seawall.gateway.answers import Answer, Flag
from seawall.wire.headers import PLAIN, RANGE, UNBELIEVED, is_token, request_kind, response_kind
from seawall.wire.http1 import CONTROLS, ResponseHead

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

# A filter holds up every other request of its process. A token is verified in a tenth of that.
SLOW: Final = 0.001  # seconds

# Timing each call would cost as much as a small filter.
SAMPLE: Final = 63  # calls between two that are timed

# Kinds of errors of one filter that are told; what makes up new ones all the time is counted.
MAX_KINDS: Final = 16

_OURS: Final = (PLAIN, RANGE, UNBELIEVED)


class Request:
    """A request as a filter sees it, and what a filter may do about it.

    Fields about the connection, and those in which a client says who it is, are not there.
    """

    __slots__ = ("_exchange",)

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange: Exchange = exchange

    @property
    def method(self) -> str:
        return self._exchange.head.method.decode("latin-1")

    @property
    def path(self) -> str:
        """The one canonical path, as the client sent it."""
        return self._exchange.head.path.decode("latin-1")

    @property
    def query(self) -> str:
        """With its "?"; empty if there is none."""
        return self._exchange.head.query.decode("latin-1")

    @property
    def host(self) -> str:
        return self._exchange.head.host.decode("latin-1")

    @property
    def client(self) -> str:
        """The client's address."""
        return self._exchange.client

    @property
    def subject(self) -> str:
        """Who asks; empty before authentication, and without it."""
        return self._exchange.subject

    @property
    def scopes(self) -> tuple[str, ...]:
        return self._exchange.scopes

    @property
    def request_id(self) -> str:
        return self._exchange.request_id.decode("ascii")

    def header(self, name: str) -> str | None:
        """The first value of a field."""
        values = self._exchange.head.values(name.lower().encode("latin-1"))
        return values[0].decode("latin-1") if values else None

    def headers(self) -> list[tuple[str, str]]:
        return _pairs(self._exchange.head.lines)

    def set_header(self, name: str, value: str) -> None:
        """Have the service get this field, once. Raises `ValueError` for the gateway's own."""
        line = _line(name, value, request_kind)
        head = self._exchange.head
        head.remove(name.lower().encode())
        head.lines.append(line)

    def remove_header(self, name: str) -> None:
        self._exchange.head.remove(name.lower().encode("latin-1"))

    def tell(self, name: str, value: str) -> None:
        """Add a field to the answer, whoever gives it."""
        _line(name, value, response_kind)
        self._exchange.tell({name: value})


class Response:
    """The head of a service's answer, before a byte of it is passed on."""

    __slots__ = ("_head",)

    def __init__(self, head: ResponseHead) -> None:
        self._head: ResponseHead = head

    @property
    def status(self) -> int:
        return self._head.status

    def header(self, name: str) -> str | None:
        """The first value of a field."""
        values = self._head.values(name.lower().encode("latin-1"))
        return values[0].decode("latin-1") if values else None

    def headers(self) -> list[tuple[str, str]]:
        return _pairs(self._head.lines)

    def set_header(self, name: str, value: str) -> None:
        """Have the client get this field, once. Raises `ValueError` for the gateway's own."""
        line = _line(name, value, response_kind)
        self.remove_header(name)
        self._head.lines.append(line)

    def remove_header(self, name: str) -> None:
        gone = name.lower().encode("latin-1")
        self._head.lines = [
            line for line in self._head.lines if line.partition(b":")[0].lower() != gone
        ]


def refuse(status: int, detail: str, *, retry_after: float | None = None) -> Answer:
    """An answer that says why not, as problem+json."""
    return Answer(
        status=HTTPStatus(status).value, flag=Flag.FILTERED, detail=detail, retry_after=retry_after
    )


def respond(
    status: int,
    body: str = "",
    *,
    content_type: str = "text/plain; charset=utf-8",
    headers: dict[str, str] | None = None,
) -> Answer:
    """An answer of the filter's own."""
    fields = headers or {}
    for name, value in [*fields.items(), ("content-type", content_type)]:
        _line(name, value, response_kind)
    return Answer(
        status=HTTPStatus(status).value,
        flag=Flag.FILTERED,
        detail="",
        headers=fields,
        body=body.encode(),
        content_type=content_type,
    )


def _pairs(lines: list[bytes]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in lines:
        name, _, value = line.partition(b":")
        found.append((name.decode("latin-1"), value.strip().decode("latin-1")))
    return found


def _line(name: str, value: str, kind: Callable[[bytes], int]) -> bytes:
    """A field's line; raises `ValueError` where it would not be one, or is not a filter's."""
    called, text = name.encode("latin-1"), value.encode("latin-1")
    if not is_token(called) or text.translate(None, CONTROLS) != text:
        raise ValueError(f"{name}: {value!r} is no field")
    if kind(called.lower()) not in _OURS:
        raise ValueError(f"{name} is the gateway's own")
    return called + b": " + text


@dataclass(frozen=True, slots=True)
class FilterFailed:
    """A filter raised; told once for each kind of error."""

    name: str
    kind: str
    detail: str
    at: float


@dataclass(frozen=True, slots=True)
class FilterSlow:
    """A filter held everybody up; told the first time, the tenth, the hundredth and so on."""

    name: str
    seconds: float
    times: int
    at: float


class Cost:
    """What one filter did and took, on all routes of this process."""

    __slots__ = ("answered", "calls", "failed", "kinds", "name", "phase", "slow", "spent", "timed")

    def __init__(self, name: str, phase: str) -> None:
        self.name: str = name
        self.phase: str = phase
        self.calls: int = 0
        self.answered: int = 0  # in place of the service
        self.failed: int = 0
        self.slow: int = 0
        self.timed: int = 0  # calls
        self.spent: float = 0.0  # seconds of CPU, of those that were timed
        self.kinds: set[str] = set()  # of errors that were told

    def seconds(self) -> float:
        """CPU time of all calls, as far as those that were timed stand for them."""
        return self.spent * self.calls / self.timed if self.timed else 0.0


class Watch:
    """How filters are held to what they promise."""

    __slots__ = ("_observer", "cpu", "now")

    def __init__(
        self, now: Callable[[], float], cpu: Callable[[], float], observer: Observer
    ) -> None:
        self.now: Callable[[], float] = now
        self.cpu: Callable[[], float] = cpu
        self._observer: Observer = observer

    def took(self, cost: Cost, seconds: float) -> None:
        cost.slow += 1
        if str(cost.slow).rstrip("0") == "1":
            self._observer(FilterSlow(cost.name, seconds, cost.slow, self.now()))

    def failed(self, cost: Cost, error: Exception) -> Answer:
        cost.failed += 1
        kind = type(error).__name__
        if kind not in cost.kinds and len(cost.kinds) < MAX_KINDS:
            cost.kinds.add(kind)
            self._observer(FilterFailed(cost.name, kind, str(error), self.now()))
        return Answer(
            status=500, flag=Flag.FILTER_FAILED, detail=f"the filter {cost.name} failed: {kind}"
        )


Check = Callable[[Request, float], Answer | None]
OnAnswer = Callable[[Request, Response], object]


class Custom:
    """A user's filter, as a filter of ours."""

    __slots__ = ("_call", "_cost", "_watch")

    def __init__(self, call: Check, cost: Cost, watch: Watch) -> None:
        self._call: Check = call
        self._cost: Cost = cost
        self._watch: Watch = watch

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        watch = self._watch
        began = watch.now()
        try:
            answer: object = self._call(Request(exchange), now)
            if answer is not None and not isinstance(answer, Answer):
                raise TypeError(f"{type(answer).__name__} is neither None nor an Answer")
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this request only
            return watch.failed(self._cost, error)
        seconds = watch.now() - began
        if seconds > SLOW:
            watch.took(self._cost, seconds)
        return answer


class CustomFinisher:
    """A user's look at an answer, as a finisher of ours. If it fails, the answer is not sent: it
    may hold what the filter would have taken out."""

    __slots__ = ("_call", "_cost", "_watch")

    def __init__(self, call: OnAnswer, cost: Cost, watch: Watch) -> None:
        self._call: OnAnswer = call
        self._cost: Cost = cost
        self._watch: Watch = watch

    def __call__(self, exchange: "Exchange", head: ResponseHead) -> None:
        watch, cost = self._watch, self._cost
        cost.calls += 1
        began, worked = watch.now(), 0.0
        timed = not cost.calls & SAMPLE
        if timed:
            worked = watch.cpu()
        try:
            self._call(Request(exchange), Response(head))
        except Exception as error:  # noqa: BLE001 - as above
            exchange.give_up(watch.failed(cost, error))
            return
        if timed:
            cost.timed += 1
            cost.spent += watch.cpu() - worked
        seconds = watch.now() - began
        if seconds > SLOW:
            watch.took(cost, seconds)


Filter = Callable[["Exchange", float], Answer | None]


class Chain:
    """The filters of a route as one: asks each in turn, counts, and times every 64th call."""

    __slots__ = ("_cpu", "_steps")

    def __init__(
        self, filters: tuple[Filter, ...], costs: tuple[Cost, ...], cpu: Callable[[], float]
    ) -> None:
        # The interpreter enters a method at once, and an object that is called by a detour.
        checks: list[Filter] = list(map(attrgetter("__call__"), filters))
        self._steps: tuple[tuple[Filter, Cost], ...] = tuple(zip(checks, costs, strict=True))
        self._cpu: Callable[[], float] = cpu

    def check(self, exchange: "Exchange", now: float) -> Answer | None:
        for check, cost in self._steps:
            cost.calls += 1
            if cost.calls & SAMPLE:
                answer = check(exchange, now)
            else:
                worked = self._cpu()
                answer = check(exchange, now)
                cost.timed += 1
                cost.spent += self._cpu() - worked
            if answer is not None:
                cost.answered += 1
                return answer
        return None
