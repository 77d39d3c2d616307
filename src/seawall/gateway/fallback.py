"""What a client gets in place of an answer that a service does not give.

A text that is always the same, or another service's answer. Either is marked with `x-fallback` and
the flag of what went wrong, so that nobody takes it for the answer that was asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from seawall.errors import Misconfigured
from seawall.gateway import admission
from seawall.gateway.answers import Flag
from seawall.gateway.retrying import failures
from seawall.wire import headers as fields

if TYPE_CHECKING:
    from seawall.gateway.attempt import Attempt
    from seawall.gateway.clusters import Cluster
    from seawall.gateway.exchange import Exchange
    from seawall.resilience.breaker import Permit

MARK: Final = "x-fallback"

OPEN: Final = "open"  # the breaker is open, too many are under way, or it was shed
NO_INSTANCE: Final = "no_instance"
FAILED: Final = "failed"  # no connection, or no whole answer, at every try
TIMEOUT: Final = "timeout"
WORDS: Final = (OPEN, NO_INSTANCE, FAILED, TIMEOUT)

_FLAGS: Final = {
    OPEN: (Flag.UPSTREAM_OVERFLOW, Flag.SHED),
    NO_INSTANCE: (Flag.NO_HEALTHY_UPSTREAM,),
    FAILED: (
        Flag.UPSTREAM_FAILED,
        Flag.UPSTREAM_CLOSED,
        Flag.UPSTREAM_PROTOCOL,
        Flag.RETRIES_EXHAUSTED,
    ),
    TIMEOUT: (Flag.UPSTREAM_TIMEOUT,),
}

# It is held in memory for each route and written at the worst moment.
MAX_BODY: Final = 64 * 1024
_RESERVED: Final = frozenset(("content-length", "transfer-encoding", "connection", MARK))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fallback:
    """Either `service`, which is asked the same, or an answer. Raises `Misconfigured`."""

    service: str = ""
    status: int = 200
    body: str = ""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    on: tuple[str, ...] = WORDS  # or statuses of the service's own answers: "503"

    def __post_init__(self) -> None:
        failures(self.on, WORDS, "fallback.on")
        if not 200 <= self.status <= 599:
            raise Misconfigured(f"a fallback's status is between 200 and 599, not {self.status}")
        if len(self.body.encode()) > MAX_BODY:
            raise Misconfigured(f"a fallback's body has at most {MAX_BODY} bytes")
        if self.service and (self.body or self.headers or self.status != 200):
            raise Misconfigured("a fallback is a service or an answer, not both")
        for name, value in {"content-type": self.content_type, **self.headers}.items():
            sound = fields.is_token(name.encode()) and value.isprintable() and value.isascii()
            if not sound or name.lower() in _RESERVED:
                raise Misconfigured(f"a fallback cannot have the field {name}: {value}")


class Prepared:
    """A route's fallback, prepared: `cluster` is who is asked, or there are bytes."""

    __slots__ = ("_body", "_head", "cluster", "flags", "status", "statuses")

    def __init__(self, fallback: Fallback, cluster: "Cluster | None") -> None:
        self.cluster: Cluster | None = cluster
        self.flags: frozenset[Flag] = frozenset(
            flag for word in fallback.on for flag in _FLAGS.get(word, ())
        )
        self.statuses: frozenset[int] = frozenset(int(one) for one in fallback.on if one.isdigit())
        self.status: int = fallback.status
        bare = fallback.status in (204, 304)
        self._body: bytes = b"" if bare else fallback.body.encode()
        lines = [f"HTTP/1.1 {fallback.status} {_phrase(fallback.status)}"]
        if not bare:
            lines.append(f"content-type: {fallback.content_type}")
            lines.append(f"content-length: {len(self._body)}")
        lines += [f"{name.lower()}: {value}" for name, value in fallback.headers.items()]
        self._head: bytes = "\r\n".join(lines).encode()

    def answer(self, told: bytes, request_id: bytes, *, head_only: bool, close: bool) -> bytes:
        """The whole answer; `told` are the lines, the mark among them, that the exchange adds."""
        more = b"\r\nconnection: close" if close else b""
        head = b"%b%b\r\nx-request-id: %b\r\n%b\r\n" % (
            self._head,
            more,
            request_id,
            told,
        )
        return head if head_only else head + self._body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Fallback"


class Unwanted:
    """An answer that came, and that a fallback stands in for."""

    __slots__ = ("attempt", "ended", "status")

    def __init__(self, attempt: "Attempt", status: int, ended: bool) -> None:
        self.attempt: Attempt = attempt
        self.status: int = status
        self.ended: bool = ended  # it is here as a whole


def stand_in(
    exchange: "Exchange",
    reason: str,
    verdict: int,
    now: float,
    unwanted: "Unwanted | None" = None,
) -> bool:
    """Give the route's fallback if that is possible, instead of an `unwanted` answer or none.

    `verdict` is on the service that is asked no more. A fallback has no fallback.
    """
    plan = exchange.planned()
    fallback, proxy = plan.fallback, exchange.proxy
    if fallback is None or exchange.fell_back:
        return False
    cluster = fallback.cluster
    permit = None if cluster is None else _enter(exchange, cluster, now)
    if cluster is not None and permit is None:
        return False
    if unwanted is not None:
        exchange.discard(unwanted.attempt, unwanted.status, unwanted.ended, now)
    exchange.fell_back = True
    exchange.cancel_timer()
    exchange.tell({MARK: reason})
    proxy.metrics.fell_back(plan.route.service)
    if cluster is not None:
        exchange.leave_cluster(verdict, now)
        admission.yield_place(exchange)
        exchange.permit = permit
        exchange.tried = []
        exchange.cluster = cluster
        exchange.rearm()
        exchange.try_once(cluster, now)
        return True
    keep = exchange.may_keep()
    head_only = exchange.head.method == b"HEAD"
    exchange.status = fallback.status
    exchange.down.write(
        fallback.answer(exchange.told, exchange.request_id, head_only=head_only, close=not keep)
    )
    exchange.end(now, verdict)
    exchange.down.finished(keep, now)
    return True


def _enter(exchange: "Exchange", cluster: "Cluster", now: float) -> "Permit | None":
    """A place at the service that stands in, where it can be asked the same."""
    if now >= exchange.deadline or not (exchange.may_repeat() and exchange.is_replayable()):
        return None
    return cluster.enter(now)
