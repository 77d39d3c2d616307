"""How much a service takes on at once: a limit that finds itself, and who waits or is refused.

A layer between the edge and the application, there only where it is declared
(`[services.X.admission]`, as the supervisor passes it on in `SEAWALL_ADMISSION`). What is sheddable
is refused as soon as places get scarce; what is more important waits a little, the most important
first, as long as its deadline allows an answer. Whoever is refused hears 503 at once, with
`Retry-After`. It counts as offered load all the same, so that scaling sees what shedding hides.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall.clock import SYSTEM, Clock
from seawall.errors import Misconfigured
from seawall.facts import Observer
from seawall.resilience.admission import Adaptive, Admission
from seawall.resilience.shed import Importance
from seawall.resilience.waiting import WaitingRoom
from seawall.service import context
from seawall.service.beginning import Beginners
from seawall.service.problem import Problem
from seawall.telemetry.metrics import Metrics

VARIABLE = "SEAWALL_ADMISSION"

# What a client that is refused is told: a window of samples later there may be room.
RETRY_AFTER = 1.0  # seconds

# Without a refusal for so long, an overload is over.
CALM = 5.0  # seconds

# Of a new answer time in what an answer usually takes.
_LEARNS = 0.1

_IMPORTANCE = b"x-importance"
_SAID = {one.value.encode(): one.value for one in Importance}
_WAITS = (Importance.CRITICAL.value, Importance.NORMAL.value)
_EVENTS = b"text/event-stream"


@dataclass(frozen=True, kw_only=True, slots=True)
class AdmissionConfig:
    """What `[services.X.admission]` says. Raises `Misconfigured`.

    `critical` and `sheddable` are paths, `/pay` or `/reports/*`, with a method before them where it
    matters; other requests are `normal`. A caller's `x-importance` wins.
    """

    kind: str = "gradient2"
    initial: int = 20
    minimum: int = 4  # a handler of one process may be slow for fewer than a gateway's 20
    maximum: int = 200
    window: float = 1.0  # seconds of answers that make one sample
    queue: int = 100  # requests that may wait
    wait: float = 0.5  # seconds, each of them at most
    critical: tuple[str, ...] = ()
    sheddable: tuple[str, ...] = ()
    limit: Adaptive = field(init=False)

    def __post_init__(self) -> None:
        limit = Adaptive(
            kind=self.kind,
            initial=self.initial,
            minimum=min(self.minimum, self.maximum),
            maximum=self.maximum,
            window=self.window,
        )
        object.__setattr__(self, "limit", limit)
        if self.queue < 0 or not self.wait > 0:
            raise Misconfigured(
                f"admission with a queue of {self.queue} for {self.wait} s", fix="queue = 0 is none"
            )


def parse(text: str) -> AdmissionConfig:
    """From the JSON of the environment; raises `Misconfigured`."""
    try:
        said = msgspec.json.decode(text, type=dict[str, object])
        names = ("critical", "sheddable")
        said |= {name: tuple(said[name]) for name in names if name in said}  # type: ignore[arg-type]
        return AdmissionConfig(**said)  # type: ignore[arg-type]
    except (msgspec.DecodeError, TypeError) as exc:
        raise Misconfigured(
            f"{VARIABLE}={text!r}: {exc}",
            fix='a JSON object, such as {"kind": "gradient2", "maximum": 200}',
        ) from exc


@dataclass(frozen=True, slots=True)
class Overloaded:
    """A service began to refuse requests."""

    service: str
    limit: int

    def __str__(self) -> str:
        return f"{self.service} has more to do than it can: {self.limit} requests at once"


@dataclass(frozen=True, slots=True)
class Relieved:
    """A service has not refused anything for a while."""

    service: str
    refused: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.service} refused {self.refused} requests in {self.seconds:.1f} s"


class Gate:
    """Wraps `app`: requests pass, wait or are refused; all else passes."""

    def __init__(
        self,
        app: ASGIApp,
        service: str,
        config: AdmissionConfig,
        metrics: Metrics,
        observer: Observer,
        rng: Random,
        clock: Clock = SYSTEM,
    ) -> None:
        self.app = app
        self.admission = Admission(config.limit, rng)
        self._service = service
        self._wait = config.wait
        self._room: WaitingRoom[_Turn] = WaitingRoom(
            config.queue, _WAITS, target=config.wait / 10, interval=config.wait
        )
        self._rules = [
            *_rules(Importance.CRITICAL, config.critical),
            *_rules(Importance.SHEDDABLE, config.sheddable),
        ]
        self._beginners = Beginners(tuple(Importance), clock)
        self._usual = 0.0  # seconds that an answer takes
        self._refused = 0
        self._since = self._last = 0.0  # of the overload, while `_refused`
        self._metrics = metrics
        self._observer = observer
        self._clock = clock
        self._shed = metrics.counts(
            "seawall_admission_shed",
            "Requests refused since there is enough to do",
            ("service", "importance", "reason"),
        )
        for name, help_text, read in self._gauges():
            metrics.readings(
                f"seawall_admission_{name}",
                help_text,
                ("service",),
                lambda read=read: [((service,), float(read()))],  # type: ignore[misc]
            )

    def _gauges(self) -> Sequence[tuple[str, str, Callable[[], int]]]:
        return (
            ("limit", "Requests that are let in at once", lambda: self.admission.limit),
            ("in_flight", "Of them, those that are under way", lambda: self.admission.taken),
            ("waiting", "Requests that wait to be let in", lambda: len(self._room)),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self._beginners.arrived += 1
        importance, now = self._importance(scope), self._clock.now()
        if not self._enters(importance):
            reason = await self._waited(importance, now)
            if reason:
                await self._refuse(scope, send, importance, reason)
                return
        place = _Place(self, importance, send, self._clock)
        try:
            if await self._beginners.begin(importance, self._patience(importance)):
                await self.app(scope, receive, place.send)
                return
            place.give_up()
        finally:
            place.leave()
        await self._refuse(scope, send, importance, "waited")

    def _patience(self, importance: str) -> float:
        """Seconds in which it is to begin, now that it has a place."""
        remaining = context.current().remaining(self._clock)
        longest = math.inf if importance == Importance.CRITICAL else self._wait
        return longest if remaining is None else min(longest, remaining)

    def _importance(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == _IMPORTANCE and value in _SAID:
                return _SAID[value]
        for method, path, is_prefix, importance in self._rules:
            asked: str = scope["path"]
            matches = asked.startswith(path) if is_prefix else asked == path
            if matches and method in ("", scope["method"]):
                return importance
        return Importance.NORMAL.value

    def _enters(self, importance: str) -> bool:
        # Nobody passes those who wait and are as important.
        waits = importance in _WAITS and self._room.is_ahead(importance)
        return not waits and self.admission.enter(importance)

    async def _waited(self, importance: str, now: float) -> str:
        """Wait for a place; why there is none, if there is none."""
        if importance not in _WAITS:
            return "full"
        remaining = context.current().remaining(self._clock)
        longest = self._wait if remaining is None else min(self._wait, remaining - self._usual)
        if longest <= 0:
            return "deadline"
        turn = _Turn(importance)
        leaves = self._room.enter(turn, importance, now)
        if leaves is turn:
            return "full"
        if leaves is not None:
            leaves.tell(False)
        self.pass_on()  # what was held back for others may be free for this one
        try:
            async with self._clock.timeout(longest):
                let_in = await turn.told
        except BaseException as exc:
            self._room.leave(turn)
            if isinstance(exc, TimeoutError):
                # Where a handler held the loop, its place and the end of its patience come at once.
                return "" if turn.is_in else "waited"
            if turn.is_in:  # it got its place at the moment in which it left
                self.release(importance)
            raise
        return "" if let_in else "queue"

    def pass_on(self) -> None:
        """Let in who waits, as far as there are places."""
        while len(self._room):
            now = self._clock.now()
            turn, dropped = self._room.next(self.admission.take, now)
            for each in dropped:
                each.tell(False)
            if turn is None:
                return
            if not turn.tell(True):  # it has left, and does not know yet
                self.admission.release(turn.importance)

    def release(self, importance: str) -> None:
        self.admission.release(importance)
        self.pass_on()

    def answered(self, seconds: float, dropped: bool) -> None:
        """An answer began after so long; `dropped`: the application had too much to do itself."""
        self._usual += _LEARNS * (seconds - self._usual) if self._usual else seconds
        self.admission.observe(seconds, dropped, self._clock.now())

    async def _refuse(self, scope: Scope, send: Send, importance: str, reason: str) -> None:
        self._count(importance, reason)
        problem = Problem(
            status=503,
            detail=f"The service has enough to do; {importance} requests come later.",
            retryable=True,
            retry_after=RETRY_AFTER,
        )
        body = problem.body(service=self._service, path=scope["path"], trace_id=None)
        # A gateway that took it for a failure would open its breaker, to the important ones too.
        headers = [*problem.raw_headers(len(body)), (b"x-load-shed", reason.encode())]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _count(self, importance: str, reason: str) -> None:
        self.admission.turn_away(importance)
        self._shed.add((self._service, importance, reason))
        self._metrics.refused("admission")
        now = self._clock.now()
        if self._refused and now - self._last > CALM:
            self._observer(Relieved(self._service, self._refused, self._last - self._since))
            self._refused = 0
        if not self._refused:
            self._since = now
            self._observer(Overloaded(self._service, self.admission.limit))
        self._refused += 1
        self._last = now


class _Turn:
    """One that waits."""

    __slots__ = ("importance", "told")

    def __init__(self, importance: str) -> None:
        self.importance = importance
        self.told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def tell(self, let_in: bool) -> bool:
        """Whether it still waited for it."""
        if self.told.done():
            return False
        self.told.set_result(let_in)
        return True

    @property
    def is_in(self) -> bool:
        return self.told.done() and not self.told.cancelled() and self.told.result()


class _Place:
    """A request's place, given back when it ends, or when it turns out to be a stream."""

    __slots__ = ("_began", "_clock", "_gate", "_importance", "_send")

    def __init__(self, gate: Gate, importance: str, send: Send, clock: Clock) -> None:
        self._gate = gate
        self._importance = importance
        self._send = send
        self._clock = clock
        self._began = clock.now()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._importance:
            headers = dict(message.get("headers", ()))
            if headers.get(b"content-type", b"").startswith(_EVENTS):
                self.leave()  # it may go on for days, and is no work that others wait for
            else:
                dropped = message["status"] == 503
                self._gate.answered(self._clock.now() - self._began, dropped)
        await self._send(message)

    def give_up(self) -> None:
        """It never began: more were let in than can be worked on."""
        self._gate.admission.observe(self._clock.now() - self._began, True, self._clock.now())

    def leave(self) -> None:
        importance, self._importance = self._importance, ""
        if importance:
            self._gate.release(importance)


def _rules(importance: Importance, patterns: Sequence[str]) -> list[tuple[str, str, bool, str]]:
    found = []
    for pattern in patterns:
        method, _, path = pattern.rpartition(" ")
        if not path.startswith("/") or "*" in path[:-1]:
            raise Misconfigured(
                f"admission: {pattern!r} is no path", fix="/pay, /reports/* or POST /orders"
            )
        found.append((method, path.removesuffix("*"), path.endswith("*"), importance.value))
    return found
