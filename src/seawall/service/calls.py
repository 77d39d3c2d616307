"""One destination of a client, and what a call to it consists of.

Tries, breakers and budget are `concurrency/guard.py`'s, the choice of an instance is
`endpoints.py`'s, the bytes are `transport/`'s. Here they are joined, with the knowledge of what
an HTTP answer means to the next try.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from seawall.clock import Clock
from seawall.concurrency.guard import Guard, Target
from seawall.errors import Misconfigured, NotSent, OutcomeUnknown, SeawallError
from seawall.facts import Observer, ignore
from seawall.registry.watcher import View, Watcher
from seawall.resilience.breaker import Breaker, BreakerConfig
from seawall.resilience.budget import RetryBudget
from seawall.resilience.deadline import HEADER, Deadline, tightest
from seawall.resilience.retry import RetryConfig
from seawall.service.endpoints import Endpoint, Endpoints
from seawall.service.response import Response, final
from seawall.telemetry import tracing
from seawall.topology import Address, Constraint, Instance, InstanceState, service_name
from seawall.transport.http1 import IDEMPOTENT, request_head
from seawall.transport.pool import ConnectFailed, PoolConfig
from seawall.transport.tls import Secured

Fields = list[tuple[str, str]]

Towards = Callable[[str], Secured | None]
"""How to call the service of that name: by TLS, or, where it gives None, without."""

# All instances together. By rate only: a burst of calls that meets one dying instance has many
# failures in a row, and must not cut off the healthy ones.
SERVICE_BREAKER = BreakerConfig(
    consecutive_failures=None, open_for=5.0, growth=2.0, open_for_max=60.0, jitter=0.2
)


@dataclass(frozen=True, slots=True)
class CallMade:
    """One try of a call ended."""

    callee: str
    method: str
    status: int | None  # None: no answer
    error: str  # the error's type, or the status of an answer that stands for one; else empty
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientConfig:
    """What a client does by default; `timeout` in seconds for each try."""

    timeout: float = 2.0
    retry: RetryConfig = field(default_factory=RetryConfig)
    breaker: BreakerConfig = SERVICE_BREAKER
    pool: PoolConfig = field(default_factory=PoolConfig)

    def __post_init__(self) -> None:
        if not 0 < self.timeout <= 3600:
            raise Misconfigured(f"timeout is above 0 and at most an hour, not {self.timeout} s")


class Answered(SeawallError):
    """Carries an answer that stands for a failure through the guard."""

    response: Response


class _Shed(Answered, NotSent):
    pass


class _Failed(Answered, OutcomeUnknown):
    pass


class _Final(Answered, OutcomeUnknown):
    """A failure that a layer below has already retried."""

    spent = True


class Destination:
    """A service to call, or a plain URL. Open between `open` and `close`."""

    def __init__(
        self,
        service: str,
        version: str,
        url: str | None,
        config: ClientConfig,
        *,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.service = service_name(service) if url is None else service
        self.constraint = Constraint.parse(version)
        self.fixed = None if url is None else (_instance_at(service, url),)
        self.prefix = "" if url is None else urlsplit(url).path.rstrip("/")
        self.authority = service if url is None else urlsplit(url).netloc
        self.clock = clock
        self.breaker = Breaker(config.breaker, name=service, rng=rng)
        self.observer: Observer = ignore
        self.config = config
        self._rng = rng
        self._watcher: Watcher | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._tls: Secured | None = None
        self._start_fresh()

    def _start_fresh(self) -> None:
        self.endpoints = Endpoints(
            self.service,
            self.config.pool,
            rng=self._rng,
            observer=self._observe,
            tls=self._tls,
            clock=self.clock,
        )
        self.budget = RetryBudget()
        self.guard = Guard(
            self.service,
            retry=self.config.retry,
            budget=self.budget,
            timeout=self.config.timeout,
            clock=self.clock,
            rng=self._rng,
            observer=self._observe,
        )

    def open(
        self, watcher: Watcher | None, observer: Observer, towards: Towards | None = None
    ) -> None:
        self.observer = observer
        # A URL says itself that it is called in plain text.
        named = towards if self.fixed is None else None
        self._tls = None if named is None else named(self.service)
        self._start_fresh()
        self._watcher = watcher
        if self.fixed is None and watcher is not None:
            self._unsubscribe = watcher.subscribe(self._changed)

    def close(self) -> None:
        self._unsubscribe()
        self._unsubscribe = lambda: None
        self._watcher = None
        self.endpoints.close()

    def instances(self) -> Sequence[Instance]:
        """Those that may be called now; raises `NoInstance`."""
        if self.fixed is not None:
            return self.fixed
        if self._watcher is None:
            raise Misconfigured(
                f"the client of {self.service} is not open", fix="call it while the service runs"
            )
        return self._watcher.resolve(self.service, self.constraint)

    async def call(
        self,
        method: str,
        target: str,
        fields: Fields,
        body: bytes | None,
        deadline: Deadline | None,
    ) -> Response:
        """Make a call under all policies; an answer of any status is returned."""
        idempotent = method in IDEMPOTENT or any(name == "idempotency-key" for name, _ in fields)
        call = _Call(self, method, target, fields, body, deadline)
        try:
            return await self.guard.run(
                call.attempt, call.choose, idempotent=idempotent, deadline=deadline
            )
        except Answered as answered:
            return answered.response

    def _changed(self, view: View) -> None:
        self.endpoints.keep_only(
            [
                instance
                for instance in view.instances
                if instance.service == self.service and instance.state is InstanceState.READY
            ]
        )

    def _observe(self, fact: object) -> None:
        self.observer(fact)


class _Call:
    """What is the same in all tries of one call."""

    __slots__ = ("_body", "_deadline", "_fields", "_method", "_target", "_to", "_tries")

    def __init__(
        self,
        to: Destination,
        method: str,
        target: str,
        fields: Fields,
        body: bytes | None,
        deadline: Deadline | None,
    ) -> None:
        self._to = to
        self._method = method
        self._target = target
        self._fields = fields
        self._body = body
        self._deadline = deadline
        self._tries = 0

    def choose(self, tried: Sequence[Endpoint]) -> Target[Endpoint]:
        endpoint = self._to.endpoints.pick(self._to.instances(), [one.key for one in tried])
        return Target(endpoint, (self._to.breaker, endpoint.breaker))

    async def attempt(self, endpoint: Endpoint, limit: float) -> Response:
        to = self._to
        began = to.clock.now()
        status: int | None = None
        failure = ""
        attributes: dict[str, str | int] = {
            "http.request.method": self._method,
            "server.address": to.service,
        }
        if self._tries:
            attributes["http.request.resend_count"] = self._tries
        self._tries += 1
        try:
            with tracing.span(self._method, tracing.CLIENT, attributes) as trace:
                response = await self._exchange(endpoint, limit, trace.headers())
                status = response.status
                if status >= 400:
                    failure = str(status)
                return self._judged(endpoint, response)
        except SeawallError as error:
            failure = failure or type(error).__name__
            raise
        finally:
            seconds = to.clock.now() - began
            to.observer(CallMade(to.service, self._method, status, failure, seconds))

    async def _exchange(
        self, endpoint: Endpoint, limit: float, trace: Mapping[str, str]
    ) -> Response:
        to = self._to
        now = to.clock.now()
        until = tightest(self._deadline, Deadline.after(limit, now))
        assert until is not None
        head = request_head(
            self._method,
            self._target,
            to.authority,
            [*self._fields, (HEADER, until.to_header(now)), *trace.items()],
            None if self._body is None else len(self._body),
        )
        try:
            answer = await endpoint.pool.exchange(
                head, self._body or b"", within=limit, method=self._method
            )
        except ConnectFailed:
            to.endpoints.evict(endpoint)
            raise
        except OutcomeUnknown:
            to.endpoints.failed(endpoint)
            raise
        return Response(to.service, answer)

    def _judged(self, endpoint: Endpoint, response: Response) -> Response:
        """Return an answer that is one; raise one that stands for a failure."""
        to = self._to
        served_by = response.headers.get("x-served-by")
        if served_by and to.fixed is None and served_by.split("/")[0] != to.service:
            # The address was taken over by somebody else since we learned it.
            to.endpoints.evict(endpoint)
            raise NotSent(f"{endpoint.instance.address} is {served_by}, not {to.service}")
        error = response.error
        if isinstance(error, OutcomeUnknown):
            to.endpoints.failed(endpoint)
            kind = _Final if final(response, error) else _Failed
            raise _carrying(kind(str(error)), response)
        if isinstance(error, NotSent):
            shed = _Shed(str(error), retry_after=error.retry_after)
            shed.spent = final(response, error)
            raise _carrying(shed, response)
        to.endpoints.succeeded(endpoint)
        return response


def _carrying(error: Answered, response: Response) -> Answered:
    error.response = response
    return error


def _instance_at(service: str, url: str) -> Instance:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise Misconfigured(f"{url!r} is not the URL of a service", fix="http://HOST:PORT/PREFIX")
    return Instance(
        service=service,
        version="0.0.0",
        instance_id=parts.netloc,
        incarnation="",
        address=Address(parts.hostname, parts.port or 80),
        state=InstanceState.READY,
    )
