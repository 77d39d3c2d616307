"""What a gateway is told: frozen values, checked once, made by whoever composes the process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_network

from seawall.errors import Misconfigured
from seawall.resilience.breaker import BreakerConfig
from seawall.resilience.outlier import OutlierConfig
from seawall.topology import ANY, Constraint
from seawall.wire.target import BadTarget, canonical


class LimitBy(StrEnum):
    """Whose requests a limit counts together."""

    IDENTITY = "identity"  # the authenticated subject; the address where there is none
    ADDRESS = "address"
    ROUTE = "route"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """At most `rate` requests a second on average, and `burst` at once."""

    rate: float
    burst: int = 1
    by: LimitBy = LimitBy.IDENTITY


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """Seconds; 0 = no such limit."""

    connect: float = 1.0  # to one instance; then another is tried
    first_byte: float = 0.0  # from the request's last byte to the answer's first
    total: float = 15.0  # from the request's head to the answer's last byte, except of streams
    stream_idle: float = 300.0  # without a byte in a stream: server-sent events, upgrades


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Which requests go to which service, and what holds for them.

    Among the routes that match, the first in the Gateway API's order is taken: exact host before
    the longest wildcard before none, exact path before the longest prefix, then one that names
    the method, then more header predicates, then the earlier one. A prefix matches whole
    segments: `/orders` matches `/orders` and `/orders/7`, not `/ordersheet`.
    """

    service: str
    path: str = "/"
    exact: bool = False
    host: str = ""  # "shop.example", "*.shop.example", or any
    methods: tuple[str, ...] = ()  # any if empty
    headers: Mapping[str, str] = field(default_factory=dict)  # all must be equal; "*" = be there
    version: Constraint = ANY
    rewrite: str | None = None  # what the matched path becomes
    timeouts: Timeouts = Timeouts()
    stream: bool = False  # every answer is a long-lived one: `total` ends at its head
    auth: str = ""  # the provider to ask; none if empty
    scopes: tuple[str, ...] = ()  # all are needed
    keep_token: bool = False  # pass the client's credentials on to the service
    limits: tuple[Limit, ...] = ()
    max_body: int | None = None  # bytes; the gateway's own if None
    upgrades: tuple[str, ...] = ("websocket",)  # protocols a client may change to
    name: str = ""  # in logs and metrics; the path if empty

    def __post_init__(self) -> None:
        for text in (self.path, self.rewrite or "/"):
            if not text.startswith("/"):
                raise Misconfigured(f"path {text!r} does not start with /")
            try:
                clean = canonical(text.encode("ascii"))
            except (BadTarget, UnicodeEncodeError) as exc:
                raise Misconfigured(f"path {text!r}: {exc}") from None
            if clean != text.encode():
                raise Misconfigured(f"path {text!r} matches nothing", fix=clean.decode())
        if "*" in self.host.removeprefix("*."):
            raise Misconfigured(f"host {self.host!r}: only a leading *. is a wildcard")
        if self.scopes and not self.auth:
            raise Misconfigured(f"{self.label}: scopes need auth")

    @property
    def label(self) -> str:
        return self.name or f"{self.host}{self.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """How the client's side is treated. Seconds and bytes."""

    head_timeout: float = 10.0  # from a head's first byte to its last: 408 (slowloris)
    idle_timeout: float = 75.0  # between requests
    body_rate: int = 500  # bytes a second, on average over `body_window`: 408
    body_window: float = 10.0
    write_timeout: float = 30.0  # without the client taking a byte
    # To answer a client that has ended its side. Most that do have left, and are waited for in
    # vain; some (`nc`, shell scripts) wait for the answer.
    half_close: float = 1.0
    max_body: int = 16 * 1024 * 1024  # 413
    linger: float = 2.0  # to take what a refused client still sends, so that it reads the answer
    # A Python process holds about 4 KB for an idle connection; 10,000 are 40 MB.
    max_connections: int = 10_000


# By rate only: a few failures in a row, of one broken page, are no reason to close a service to
# everybody.
_SERVICE_BREAKER = BreakerConfig(
    consecutive_failures=None, failure_rate=0.5, open_for=5.0, growth=2.0, open_for_max=60.0
)
# Others stand in for an instance, so it is left alone sooner.
_INSTANCE_BREAKER = BreakerConfig(open_for=5.0, growth=2.0, open_for_max=60.0)
_OUTLIERS = OutlierConfig(consecutive_failures=3, eject_for=10.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstreams:
    """How the services' side is treated."""

    # Below the keep-alive of every server we know (uvicorn 5 s, Node.js 5 s): a request sent into
    # a connection that is just being closed has an unknown outcome.
    idle_timeout: float = 4.0  # seconds
    # More at once to one Python process only lengthens its queue.
    max_connections: int = 256  # to one instance
    max_requests: int = 2048  # under way to one service; above it 503
    attempts: int = 3  # in all
    retry_ratio: float = 0.2  # of the requests
    retry_floor: float = 10.0  # retries a second that are always allowed
    breaker: BreakerConfig = _SERVICE_BREAKER
    instance_breaker: BreakerConfig = _INSTANCE_BREAKER
    outliers: OutlierConfig = _OUTLIERS


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayConfig:
    """The whole gateway. Raises `Misconfigured`."""

    routes: tuple[Route, ...] = ()
    name: str = "gateway"  # of this process, in logs
    trusted_proxies: tuple[str, ...] = ()  # networks whose word about the client is believed
    edge: Edge = Edge()
    upstreams: Upstreams = Upstreams()
    trace_sample: float = 1.0  # of the traces that begin here
    drain: float = 10.0  # seconds to finish what is under way
    # How long a draining gateway still takes requests on connections that are open; it closes
    # each behind its next answer.
    lame_duck: float = 1.0  # seconds
    access_log: str | None = None  # a file, "-" for standard output, or none

    def __post_init__(self) -> None:
        for network in self.trusted_proxies:
            try:
                ip_network(network)
            except ValueError as exc:
                raise Misconfigured(f"trusted_proxies: {exc}") from None
        if not 0 <= self.trace_sample <= 1:
            raise Misconfigured(f"trace_sample is in [0, 1], not {self.trace_sample}")
