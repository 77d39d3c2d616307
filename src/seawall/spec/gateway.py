"""The tables under `[gateway]`: routes, and what holds for them."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from seawall.spec.part import Part
from seawall.spec.policies import FallbackSpec, HedgeSpec, RetrySpec, TimeoutsSpec
from seawall.spec.traffic import FaultsSpec, MirrorSpec, SplitSpec
from seawall.spec.upstreams import UpstreamsSpec
from seawall.topology import Constraint

Coding = Literal["zstd", "br", "gzip"]


class AuthSpec(Part):
    """Who may pass. `kind = "jwt"`: bearer tokens checked against `jwks` (a file, a URL, or
    `service:users/.well-known/jwks.json`) or a shared `secret`; `kind = "key"`: API keys, kept
    as SHA-256 hashes."""

    kind: Literal["jwt", "key"] = "jwt"
    jwks: str | None = None
    secret: str | None = None
    algorithms: list[str] = ["ES256", "EdDSA", "RS256"]
    issuer: str | None = None
    audience: str | None = None
    plan_claim: str | None = None  # of a token: the claim that names the caller's plan
    keys: list["ApiKeySpec"] = []

    @model_validator(mode="after")
    def _complete(self) -> "AuthSpec":
        if self.kind == "jwt" and (self.jwks is None) == (self.secret is None):
            raise ValueError("jwt needs either jwks or secret")
        if self.kind == "key" and not self.keys:
            raise ValueError("key needs at least one entry in keys")
        return self


class ApiKeySpec(Part):
    sha256: str  # of the key, in hexadecimal
    subject: str
    scopes: list[str] = []
    plan: str | None = None  # a name in [gateway.plans]


class LimitSpec(Part):
    """At most `rate` requests a second on average and `burst` at once, or at most `requests` in
    any `window` seconds; of each identity, client address or plan, or of the route as a whole."""

    rate: float | None = Field(default=None, gt=0)
    burst: int = Field(default=1, ge=1)
    requests: int | None = Field(default=None, ge=1)
    window: float | None = Field(default=None, gt=0)  # seconds
    algorithm: Literal["token-bucket", "gcra", "sliding-window"] | None = None
    by: Literal["identity", "address", "route", "plan"] = "identity"
    name: str = ""  # in RateLimit fields; what it counts by if empty
    shared: bool = False  # one limit for all gateways, by way of limits_url
    when_away: Literal["local", "open", "closed"] = "local"  # while that server is

    @model_validator(mode="after")
    def _complete(self) -> "LimitSpec":
        in_window = self.requests is not None and self.window is not None
        if (self.rate is None) != in_window:
            raise ValueError("a limit has either a rate, or requests and a window")
        if self.algorithm is not None and in_window != (self.algorithm == "sliding-window"):
            raise ValueError("a sliding-window has requests and a window, the others a rate")
        return self


class PlanSpec(Part):
    """What those who have this plan may ask for, on all routes with `plans = true` together."""

    limits: list[LimitSpec] = []


class RegexRewriteSpec(Part):
    """The first match of `pattern` in the path becomes `to`; `\\1` is its first group."""

    pattern: str
    to: str


class RedirectSpec(Part):
    """Where to send the client; what is not named stays as it was asked, the query always."""

    scheme: Literal["http", "https"] | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None  # what the matched path becomes
    status: Literal[301, 302, 303, 307, 308] = 302


class RespondSpec(Part):
    """An answer that no service is asked for."""

    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    body: str = ""


class HeaderEditsSpec(Part):
    """Header fields to take away, to replace and to add, in this order."""

    remove: list[str] = []
    set: dict[str, str] = {}
    add: dict[str, str] = {}


class CorsSpec(Part):
    """Which pages of other origins may ask from a browser, and read the answers."""

    origins: list[str]  # "https://shop.example", "https://*.shop.example", "*"
    methods: list[str] = []  # those of the route without it
    headers: list[str] = []  # that a page may set; "*" = any
    expose: list[str] = []  # that a page may read
    credentials: bool = False  # cookies go along
    max_age: int = Field(default=600, ge=0)  # seconds that a preflight's answer may be kept


class FilterSpec(Part):
    """A filter of the project's own: a callable, or a class that is made with `options`."""

    use: str  # "shop.gateway:check_tenant"
    phase: Literal["before-auth", "after-auth", "before-service", "on-answer"] = "after-auth"
    options: dict[str, Any] = {}


FilterList = list[str | FilterSpec]


class RouteSpec(Part):
    """Which requests go where: to one of `service`, `split`, `redirect` and `respond`.
    Precedence as in the Gateway API: exact host before wildcard, whole path before the longest
    prefix, then method, then more headers, query parameters and cookies."""

    path: str = "/"  # with parameters: "/orders/{id}/items"
    path_type: Literal["prefix", "exact", "regex"] = "prefix"
    host: str | None = None  # "shop.example", "*.shop.example"
    methods: list[str] = []
    headers: dict[str, str] = {}  # equal, or "*" = be there; so query and cookies
    query: dict[str, str] = {}
    cookies: dict[str, str] = {}
    service: str | None = None
    split: SplitSpec | None = None
    redirect: RedirectSpec | None = None
    respond: RespondSpec | None = None
    version: str = "*"
    rewrite: str | None = None  # what the matched path becomes; "{id}" is a parameter of it
    rewrite_regex: RegexRewriteSpec | None = None
    host_rewrite: str | None = None  # the client's host is passed on without it
    request_headers: HeaderEditsSpec = HeaderEditsSpec()
    response_headers: HeaderEditsSpec = HeaderEditsSpec()
    timeout: float = Field(default=15.0, gt=0)  # seconds for the whole exchange, but for streams
    timeouts: TimeoutsSpec = TimeoutsSpec()  # of its parts
    retry: RetrySpec = RetrySpec()
    hedge: HedgeSpec | None = None
    fallback: FallbackSpec | None = None
    priority: Literal["critical", "normal", "sheddable"] = "normal"  # where there is `adaptive`
    max_requests: int | None = Field(default=None, ge=1)  # under way on this route
    stream: bool = False  # long-lived answers (server-sent events): no total timeout
    auth: str | None = None  # a name in [gateway.auth]
    scopes: list[str] = []
    limit: LimitSpec | None = None  # one,
    limits: list[LimitSpec] = []  # or several: all must allow
    plans: bool = False  # so must those of the caller's plan
    filters: FilterList = []  # after those of [gateway]
    mirror: MirrorSpec | None = None
    faults: FaultsSpec | None = None
    max_upgrades: int | None = Field(default=None, ge=1)  # WebSockets at once; above it 503
    tunnel_lifetime: float | None = Field(default=None, ge=0)  # the gateway's if None
    tunnel_bytes: int | None = Field(default=None, ge=0)
    cors: CorsSpec | None = None  # the gateway's if None
    compress: list[Coding] | None = None  # the gateway's if None; [] = not at all

    @model_validator(mode="after")
    def _sound(self) -> "RouteSpec":
        targets = self.service, self.split, self.redirect, self.respond
        if sum(to is not None for to in targets) != 1:
            raise ValueError(f"path {self.path!r} needs one of service, split, redirect, respond")
        if self.path_type != "regex" and not self.path.startswith("/"):
            raise ValueError(f"path {self.path!r} does not start with /")
        Constraint.parse(self.version)
        if self.limit is not None and self.limits:
            raise ValueError("limit is a short way to write limits; give one of them")
        return self

    def services(self) -> Iterator[tuple[str, str]]:
        """The services that it names, and under which key."""
        if self.service is not None:
            yield "service", self.service
        if self.split is not None:
            for number, arm in enumerate(self.split.arms):
                yield f"split[{number}].service", arm.service
        if self.mirror is not None:
            yield "mirror.service", self.mirror.service
        if self.fallback is not None and self.fallback.service:
            yield "fallback.service", self.fallback.service


class GatewaySpec(Part):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0 = any free one
    replicas: int = Field(default=1, ge=0, le=64)
    routes: list[RouteSpec] = []
    auth: dict[str, AuthSpec] = {}
    plans: dict[str, PlanSpec] = {}
    default_plan: str = ""  # of those whose credential names none that is known
    # Where gateways divide the limits that they share; the sessions' server if None.
    limits_url: str | None = None
    upstreams: dict[str, UpstreamsSpec] = {}  # by service; "*" = what the others begin from
    zone: str = ""  # where the gateway runs; SEAWALL_ZONE if empty
    filters: FilterList = []  # of the project's own, on every route
    trusted_proxies: list[str] = []  # addresses or networks whose X-Forwarded-* are believed
    forwarded: bool = False  # they name the client in Forwarded (RFC 7239) instead
    proxy_protocol: bool = False  # they begin every connection with the PROXY protocol
    cors: CorsSpec | None = None  # of routes that have none
    compress: list[Coding] = []  # of routes that say nothing: "zstd", "br", "gzip", the best first
    max_body: int = Field(default=16 * 1024 * 1024, ge=0)  # bytes; above it 413
    tunnel_lifetime: float = Field(default=86_400.0, ge=0)  # seconds of a WebSocket; 0 = no end
    tunnel_bytes: int = Field(default=0, ge=0)  # of a WebSocket, both ways together; 0 = no limit
    drain: float = Field(default=10.0, ge=0, le=3600)  # seconds
    access_log: str = Field(default="-", min_length=1)  # a file, or "-" for standard output
