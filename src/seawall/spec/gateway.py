"""The tables under `[gateway]`: routes, and what holds for them."""

from typing import Literal

from pydantic import Field, model_validator

from seawall.spec.part import Part
from seawall.topology import Constraint


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


class LimitSpec(Part):
    """At most `rate` requests a second on average and `burst` at once, each identity, client
    address, or the route as a whole."""

    rate: float = Field(gt=0)
    burst: int = Field(default=1, ge=1)
    by: Literal["identity", "address", "route"] = "identity"


class RouteSpec(Part):
    """Which requests go to which service. Precedence as in the Gateway API: exact host before
    wildcard, exact path before the longest prefix, then method, then more headers."""

    path: str = "/"
    path_type: Literal["prefix", "exact"] = "prefix"
    host: str | None = None  # "shop.example", "*.shop.example"
    methods: list[str] = []
    headers: dict[str, str] = {}
    service: str
    version: str = "*"
    rewrite: str | None = None  # what the matched path (prefix) becomes
    timeout: float = Field(default=15.0, gt=0)  # seconds for the whole exchange, but for streams
    stream: bool = False  # long-lived answers (server-sent events): no total timeout
    auth: str | None = None  # a name in [gateway.auth]
    scopes: list[str] = []
    limit: LimitSpec | None = None

    @model_validator(mode="after")
    def _sound(self) -> "RouteSpec":
        if not self.path.startswith("/"):
            raise ValueError(f"path {self.path!r} does not start with /")
        Constraint.parse(self.version)
        return self


class GatewaySpec(Part):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0 = any free one
    replicas: int = Field(default=1, ge=0, le=64)
    routes: list[RouteSpec] = []
    auth: dict[str, AuthSpec] = {}
    trusted_proxies: list[str] = []  # addresses or networks whose X-Forwarded-* are believed
    max_body: int = Field(default=16 * 1024 * 1024, ge=0)  # bytes; above it 413
    drain: float = Field(default=10.0, ge=0, le=3600)  # seconds
