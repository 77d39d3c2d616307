"""What a gateway is told: frozen values, checked once, made by whoever composes the process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from seawall.errors import Misconfigured
from seawall.gateway.actions import NO_EDITS, Edits, Redirect, RegexRewrite, Respond
from seawall.gateway.balance import HealthCheck, Sticky, checked_hash_on
from seawall.gateway.compression import Compression
from seawall.gateway.cors import Cors
from seawall.gateway.fallback import Fallback
from seawall.gateway.filter_config import FilterConfig
from seawall.gateway.limits import Limit, distinct
from seawall.gateway.paths import check_path, check_target, group_names, parameters
from seawall.gateway.retrying import Retry
from seawall.gateway.traffic import Faults, Mirror, Split
from seawall.resilience.admission import Adaptive
from seawall.resilience.balancing import Balancing
from seawall.resilience.breaker import BreakerConfig
from seawall.resilience.hedge import HedgeConfig
from seawall.resilience.locality import LocalityConfig
from seawall.resilience.outlier import OutlierConfig
from seawall.resilience.shed import Importance
from seawall.resilience.slow_start import SlowStart
from seawall.topology import ANY, Constraint
from seawall.wire.headers import request_kind, response_kind
from seawall.wire.target import host_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """Seconds; 0 = no such limit."""

    connect: float = 1.0  # to one instance; then another is tried
    first_byte: float = 0.0  # of a try: from the request's last byte to the answer's first
    per_try: float = 0.0  # of a try: from its begin, connecting included, to the answer's head
    idle: float = 0.0  # without a byte of an answer that has begun
    total: float = 15.0  # from the request's head to the answer's last byte, except of streams
    stream_idle: float = 300.0  # without a byte in a stream: server-sent events, upgrades

    def __post_init__(self) -> None:
        for name in ("connect", "first_byte", "per_try", "idle", "total", "stream_idle"):
            if getattr(self, name) < 0:
                raise Misconfigured(f"{name} is 0 seconds or more, not {getattr(self, name)}")


_RETRY = Retry()


_NOT_NEGATIVE = "tunnel_lifetime and tunnel_bytes are not negative"


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Which requests go to which service, and what holds for them.

    Among the routes that match, the first in the Gateway API's order is taken:

    1. exact host before the longest wildcard before none;
    2. the whole path, and there a literal segment before a parameter, from left to right; then
       the prefix with the most segments, and there again literal ones before parameters. A
       regular expression counts as a prefix of the literal segments that it begins with, and
       comes before that prefix; of several, the longest;
    3. one that names the method, then more headers, more query parameters, more cookies;
    4. the earlier one.

    A prefix matches whole segments: `/orders` matches `/orders` and `/orders/7`, not
    `/ordersheet`. A parameter (`/orders/{id}/items`) is one segment that is not empty. A regular
    expression matches the whole path, in linear time (RE2's syntax).

    Where it goes: exactly one of `service`, `split`, `redirect` and `respond`.
    """

    service: str = ""
    split: Split | None = None
    redirect: Redirect | None = None
    respond: Respond | None = None
    path: str = "/"
    exact: bool = False
    regex: bool = False  # `path` is a regular expression
    host: str = ""  # "shop.example", "*.shop.example", or any
    methods: tuple[str, ...] = ()  # any if empty
    # All must be equal; "*" = be there. Of several with one name, one will do.
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)
    version: Constraint = ANY
    rewrite: str | None = None  # what the matched path becomes; `{id}` is the path's parameter
    rewrite_regex: RegexRewrite | None = None
    host_rewrite: str = ""  # the client's host is passed on if empty
    request_headers: Edits = NO_EDITS
    response_headers: Edits = NO_EDITS
    timeouts: Timeouts = Timeouts()
    stream: bool = False  # every answer is a long-lived one: `total` ends at its head
    auth: str = ""  # the provider to ask; none if empty
    scopes: tuple[str, ...] = ()  # all are needed
    keep_token: bool = False  # pass the client's credentials on to the service
    limits: tuple[Limit, ...] = ()  # all must allow
    plans: bool = False  # so must those of the caller's plan
    max_body: int | None = None  # bytes; the gateway's own if None
    retry: Retry = _RETRY
    hedge: HedgeConfig | None = None  # none if None
    fallback: Fallback | None = None
    importance: Importance = Importance.NORMAL  # where the service has an `adaptive` limit
    max_requests: int | None = None  # under way on this route; above it 503
    upgrades: tuple[str, ...] = ("websocket",)  # protocols a client may change to
    filters: tuple[FilterConfig, ...] = ()  # the user's own, after those of the gateway
    mirror: Mirror | None = None
    faults: Faults | None = None
    max_upgrades: int | None = None  # at once, to all instances; above it 503
    tunnel_lifetime: float | None = None  # behind an upgrade; the gateway's own if None
    tunnel_bytes: int | None = None  # likewise
    cors: Cors | None = None  # who else may ask, from a browser; nobody is told anything if None
    compression: Compression | None = None  # of answers that are no streams; as they are if None
    name: str = ""  # in logs and metrics; the path if empty

    def __post_init__(self) -> None:
        _check_target(self)
        _check_paths(self)
        self.request_headers.check(request_kind, f"{self.label}: request_headers")
        self.response_headers.check(response_kind, f"{self.label}: response_headers")
        if self.host_rewrite and host_name(self.host_rewrite.encode()) is None:
            raise Misconfigured(f"host_rewrite {self.host_rewrite!r} is no host")
        if "*" in self.host.removeprefix("*."):
            raise Misconfigured(f"host {self.host!r}: only a leading *. is a wildcard")
        if "h2c" in (upgrade.lower() for upgrade in self.upgrades):
            # RFC 9113, 3.1 has withdrawn it; through a proxy it is a way around every route.
            raise Misconfigured(f"{self.label}: h2c is no protocol to upgrade to")
        if (self.tunnel_lifetime or 0) < 0 or (self.tunnel_bytes or 0) < 0:
            raise Misconfigured(f"{self.label}: {_NOT_NEGATIVE}", fix="0 for no such limit")
        if self.max_upgrades is not None and self.max_upgrades < 1:
            raise Misconfigured(f"{self.label}: max_upgrades is below 1", fix="upgrades = ()")
        if self.scopes and not self.auth:
            raise Misconfigured(f"{self.label}: scopes need auth")
        if self.max_requests is not None and self.max_requests < 1:
            raise Misconfigured(f"{self.label}: max_requests is 1 or more")
        distinct(self.limits, self.label)

    @property
    def label(self) -> str:
        return self.name or f"{self.host}{self.path}"


def _check_target(route: Route) -> None:
    asks = bool(route.service) + (route.split is not None)
    targets = asks + (route.redirect is not None) + (route.respond is not None)
    if targets != 1:
        raise Misconfigured(
            f"{route.label} goes to {targets} places",
            fix="one of service, split, redirect, respond",
        )
    if route.split is not None and route.version is not ANY:
        raise Misconfigured(f"{route.label}: each arm of a split names its own version")
    if not asks and (route.mirror is not None or route.faults is not None):
        raise Misconfigured(f"{route.label}: mirror and faults are of requests to a service")
    changes = route.rewrite is not None or route.rewrite_regex is not None or route.host_rewrite
    if not asks and (changes or route.request_headers):
        raise Misconfigured(f"{route.label}: no service gets what is rewritten")


def _check_paths(route: Route) -> None:
    if route.regex and route.exact:
        raise Misconfigured(f"{route.label}: a regular expression is exact by itself")
    if not route.regex:
        check_path(route.path)
    known = group_names(route.path) if route.regex else parameters(route.path)
    moved = None if route.redirect is None else route.redirect.path
    for text in (route.rewrite, moved):
        if text is None:
            continue
        unknown = [name for name in parameters(text) if name not in known]
        if unknown:
            raise Misconfigured(f"{text!r}: the path {route.path!r} has no {{{unknown[0]}}}")
        check_target(text)


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
    # Of a connection that was upgraded (WebSocket), whose bytes nobody looks at; 0 = no such limit.
    tunnel_lifetime: float = 86_400.0  # a day: then a client comes back, maybe to another gateway
    tunnel_bytes: int = 0  # both ways together
    linger: float = 2.0  # to take what a refused client still sends, so that it reads the answer
    # A Python process holds about 4 KB for an idle connection; 10,000 are 40 MB.
    max_connections: int = 10_000

    def __post_init__(self) -> None:
        if self.tunnel_lifetime < 0 or self.tunnel_bytes < 0:
            raise Misconfigured(_NOT_NEGATIVE, fix="0 for no such limit")


# By rate only: a few failures in a row, of one broken page, are no reason to close a service to
# everybody.
_SERVICE_BREAKER = BreakerConfig(
    consecutive_failures=None, failure_rate=0.5, open_for=5.0, growth=2.0, open_for_max=60.0
)
# Others stand in for an instance, so it is left alone sooner.
_INSTANCE_BREAKER = BreakerConfig(open_for=5.0, growth=2.0, open_for_max=60.0)
_OUTLIERS = OutlierConfig(consecutive_failures=3, eject_for=10.0)
_LOCALITY = LocalityConfig()


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstreams:
    """How a service's side is treated. Raises `Misconfigured`."""

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
    balancing: Balancing = Balancing.LEAST_REQUEST
    # Consistent hash: what a request sticks to ("header:x-tenant", "cookie:cart", "query:q",
    # "address", "identity" or "path"), and how much busier than the average an instance may be.
    hash_on: str = ""
    hash_bound: float = 1.25
    sticky: Sticky | None = None
    slow_start: SlowStart | None = None
    locality: LocalityConfig = _LOCALITY
    health: HealthCheck | None = None  # active checks; none without it
    adaptive: Adaptive | None = None  # a limit that finds itself, below `max_requests`

    def __post_init__(self) -> None:
        hashes = self.balancing is Balancing.CONSISTENT_HASH
        checked_hash_on(self.hash_on)
        if hashes != bool(self.hash_on):
            raise Misconfigured(
                "consistent-hash and hash_on go together",
                fix='balancing = "consistent-hash", hash_on = "header:x-tenant"',
            )
        if hashes and self.sticky is not None:
            raise Misconfigured("sticky and consistent-hash both say who is asked", fix="use one")
        if not self.hash_bound > 1:
            raise Misconfigured(f"hash_bound is above 1, not {self.hash_bound}")
        weightless = hashes or self.balancing is Balancing.ROUND_ROBIN
        if weightless and self.slow_start is not None:
            raise Misconfigured(f"{self.balancing} knows no weights", fix="weighted, least-request")


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayConfig:
    """The whole gateway. Raises `Misconfigured`."""

    routes: tuple[Route, ...] = ()
    plans: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)  # limits by plan's name
    default_plan: str = ""  # of those whose credential names none that is known
    replicas: int = 1  # gateways that keep the shared limits, as far as is known at the start
    name: str = "gateway"  # of this process, in logs
    trusted_proxies: tuple[str, ...] = ()  # networks whose word about the client is believed
    # Trusted proxies name the client in `Forwarded` (RFC 7239), not in X-Forwarded-*; so do we.
    forwarded: bool = False
    # Every connection begins with the PROXY protocol, of a trusted proxy.
    proxy_protocol: bool = False
    edge: Edge = Edge()
    upstreams: Upstreams = Upstreams()
    filters: tuple[FilterConfig, ...] = ()  # the user's own, on every route
    services: Mapping[str, Upstreams] = field(default_factory=dict)  # over `upstreams`, by name
    zone: str = ""  # where this gateway runs
    trace_sample: float = 1.0  # of the traces that begin here
    drain: float = 10.0  # seconds to finish what is under way
    # How long a draining gateway still takes requests on connections that are open; it closes
    # each behind its next answer.
    lame_duck: float = 1.0  # seconds
    access_log: str | None = None  # a file, "-" for standard output, or none
    # What the authentications that routes name are made of: shown, compared, not used.
    auth: Mapping[str, object] = field(default_factory=dict)

    @property
    def shares_limits(self) -> bool:
        """Whether there is a limit that all gateways keep together."""
        of_routes = (limit for route in self.routes for limit in route.limits)
        of_plans = (limit for limits in self.plans.values() for limit in limits)
        return any(limit.shared for limit in (*of_routes, *of_plans))

    def __post_init__(self) -> None:
        for network in self.trusted_proxies:
            try:
                ip_network(network)
            except ValueError as exc:
                raise Misconfigured(f"trusted_proxies: {exc}") from None
        if self.proxy_protocol and not self.trusted_proxies:
            raise Misconfigured(
                "proxy_protocol without trusted_proxies lets nobody in",
                fix='trusted_proxies = ["10.0.0.0/8"], where the load balancers are',
            )
        if not 0 <= self.trace_sample <= 1:
            raise Misconfigured(f"trace_sample is in [0, 1], not {self.trace_sample}")
        for name, limits in self.plans.items():
            distinct(limits, f"plan {name}")
        if any(route.plans for route in self.routes) and self.default_plan not in self.plans:
            raise Misconfigured(
                f"routes hold to plans, and {self.default_plan!r} is none for those who have none",
                fix="default_plan = " + " or ".join(map(repr, self.plans or ["free"])),
            )

    def upstreams_of(self, service: str) -> Upstreams:
        """What holds for a service."""
        return self.services.get(service, self.upstreams)
