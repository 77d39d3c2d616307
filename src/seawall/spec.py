"""What should be: services, gateway and servers, as written in `seawall.toml`.

A value is taken from the first of these that has it:

    a flag of the command              --port 9000
    an environment variable            SEAWALL_GATEWAY__PORT=9000
    the profile's file                 seawall.prod.toml   (--profile prod, or SEAWALL_PROFILE)
    the project's file                 seawall.toml, or [tool.seawall] in pyproject.toml
    the default in this module

An environment variable is `SEAWALL_` and the path with `__` between its parts; a list or table
is written as JSON. With `_FILE` behind its name it holds the path of a file with the value, as
Docker and Kubernetes hand out secrets. An unknown key is an error, never ignored.
"""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from seawall.errors import Misconfigured
from seawall.topology import Constraint, parse_version, service_name

FILE = "seawall.toml"

# Variables of a service's own process that look like paths but are none of the project's.
_NOT_OURS = frozenset({"SEAWALL_DATABASE__URL", "SEAWALL_DATABASE__URL_FILE"})


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Project(_Part):
    name: str = ""  # the folder's name if empty


class Server(_Part):
    """A server that Seawall uses. Without a URL an embedded Valkey is started."""

    url: str | None = None


def _replicas(value: object) -> object:
    if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
        return {"min": int(value), "max": int(value)}
    return value


class Replicas(_Part):
    """How many copies: `replicas = 2`, or `{ min = 1, max = 8 }` where they may be scaled."""

    min: int = Field(default=1, ge=0, le=1000)
    max: int = Field(default=1, ge=0, le=1000)

    @model_validator(mode="after")
    def _ordered(self) -> "Replicas":
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self


class ServiceSpec(_Part):
    """One service: a Python module that holds a `Service`, or any command that listens on $PORT."""

    module: str | None = None  # "orders.app:service"
    command: list[str] | None = None  # ["node", "server.js"]
    version: str = "0.0.0"  # of a command; a Service says its own
    replicas: Annotated[Replicas, BeforeValidator(_replicas)] = Replicas()
    needs: list[str] = []  # services it calls
    env: dict[str, str] = {}
    database: str | None = None  # SQLAlchemy URL; without it a SQLite file in .seawall/data
    health: str = "/readyz"  # answers 200 when ready
    port: int = Field(default=0, ge=0, le=65535)  # of the first replica; 0 = any free one
    cwd: str = "."  # from the project's folder
    start_within: float = Field(default=30.0, gt=0, le=3600)  # seconds to become ready
    drain: float = Field(default=10.0, ge=0, le=3600)  # seconds to finish what is under way
    optional: bool = False  # left out, with a word, if its command is not on this machine

    @model_validator(mode="after")
    def _runnable(self) -> "ServiceSpec":
        if (self.module is None) == (self.command is None):
            raise ValueError('needs either module = "package.module:name" or command = ["..."]')
        if self.module is not None and ":" not in self.module:
            raise ValueError(f'module {self.module!r} names no object: "package.module:name"')
        parse_version(self.version)
        return self


class AuthSpec(_Part):
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


class ApiKeySpec(_Part):
    sha256: str  # of the key, in hexadecimal
    subject: str
    scopes: list[str] = []


class LimitSpec(_Part):
    """At most `rate` requests a second on average and `burst` at once, each identity, client
    address, or the route as a whole."""

    rate: float = Field(gt=0)
    burst: int = Field(default=1, ge=1)
    by: Literal["identity", "address", "route"] = "identity"


class RouteSpec(_Part):
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


class GatewaySpec(_Part):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0 = any free one
    replicas: int = Field(default=1, ge=0, le=64)
    routes: list[RouteSpec] = []
    auth: dict[str, AuthSpec] = {}
    trusted_proxies: list[str] = []  # addresses or networks whose X-Forwarded-* are believed
    max_body: int = Field(default=16 * 1024 * 1024, ge=0)  # bytes; above it 413
    drain: float = Field(default=10.0, ge=0, le=3600)  # seconds


class Spec(_Part):
    """The whole project. `root` is its folder, `origins` says where each value came from."""

    project: Project = Project()
    registry: Server = Server()
    messages: Server = Server()
    sessions: Server = Server()
    gateway: GatewaySpec = GatewaySpec()
    services: dict[str, ServiceSpec] = {}
    profile: str | None = Field(default=None, exclude=True)
    root: Path = Field(default=Path(), exclude=True)
    origins: dict[str, str] = Field(default={}, exclude=True)

    @model_validator(mode="after")
    def _consistent(self) -> "Spec":
        for name, service in self.services.items():
            service_name(name)
            for need in service.needs:
                _known(need, self.services, f"services.{name}.needs")
        for number, route in enumerate(self.gateway.routes):
            where = f"gateway.routes[{number}]"
            _known(route.service, self.services, f"{where}.service")
            if route.auth is not None:
                _known(route.auth, self.gateway.auth, f"{where}.auth")
        return self


def load_spec(
    path: Path | None = None,
    *,
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Spec:
    """Read the project at `path` (its folder or its file; the current folder if None).

    `flags` maps dotted paths to values (`{"gateway.port": 9000}`). Raises `Misconfigured` with
    what is wrong, where it was written, and the nearest known key.
    """
    environ = environ or {}
    profile = profile or environ.get("SEAWALL_PROFILE")
    file = _find(path or Path.cwd())
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for source, layer in _layers(file, profile):
        _merge(values, layer, source, origins)
    for source, layer in _overrides(values, environ, flags or {}):
        _merge(values, layer, source, origins)
    root = file.parent.resolve()
    values.setdefault("project", {}).setdefault("name", root.name)
    try:
        spec = Spec.model_validate(values)
    except ValidationError as exc:
        raise Misconfigured(_explain(exc, origins)) from None
    return spec.model_copy(update={"root": root, "profile": profile, "origins": origins})


def _layers(file: Path, profile: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files, weakest first."""
    base = _read(file)
    if file.name == "pyproject.toml":
        base = base.get("tool", {}).get("seawall", {})
    yield file.name, base
    if profile:
        overlay = file.with_name(f"seawall.{profile}.toml")
        if not overlay.exists():
            raise Misconfigured(
                f"profile {profile!r} has no file {overlay.name}", fix=f"write {overlay}"
            )
        yield overlay.name, _read(overlay)


def _overrides(
    written: Mapping[str, Any], environ: Mapping[str, str], flags: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Environment and flags, weakest first."""
    services = written.get("services", {})
    for name, text in sorted(environ.items()):
        if name.startswith("SEAWALL_") and "__" in name and name not in _NOT_OURS:
            keys, value = _variable(name, text, services)
            yield name, _nested(keys, value)
    for dotted, value in flags.items():
        yield f"flag --{dotted}", _nested(dotted.split("."), value)


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    own, shared = path / FILE, path / "pyproject.toml"
    if own.exists():
        return own
    if shared.exists() and "seawall" in _read(shared).get("tool", {}):
        return shared
    raise Misconfigured(
        f"no {FILE} in {path.resolve()}",
        fix="go to the project's folder, or name it with --project",
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as exc:
        raise Misconfigured(f"{file} is not TOML: {exc}") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise Misconfigured(f"{file} cannot be read: {exc}") from None


def _variable(name: str, text: str, services: Mapping[str, Any]) -> tuple[list[str], Any]:
    """The path and the value that an environment variable stands for."""
    keys = name.removeprefix("SEAWALL_").lower().split("__")
    if keys[0] == "services" and len(keys) > 1:
        # A variable's name holds no "-": orders_api stands for the service orders-api.
        known = {service.replace("-", "_"): service for service in services}
        if keys[1] not in known:
            raise Misconfigured(f"{name}: no service {keys[1]!r}{_did_you_mean(keys[1], known)}")
        keys[1] = known[keys[1]]
        if len(keys) > 3 and keys[2] == "env":
            keys = [*keys[:3], name.split("__", 3)[3]]
    if keys[-1].endswith("_file") and not _field_exists(Spec, keys):
        keys[-1] = keys[-1].removesuffix("_file")
        try:
            text = Path(text).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise Misconfigured(f"{name}: {text} cannot be read: {exc}") from None
    if text[:1] in ("[", "{"):
        try:
            return keys, json.loads(text)
        except ValueError as exc:
            raise Misconfigured(f"{name} is not JSON: {exc}") from None
    return keys, text


def _field_exists(model: type[BaseModel], keys: list[str]) -> bool:
    field = model.model_fields.get(keys[0])
    if field is None or len(keys) == 1:
        return field is not None
    inner, rest = _inner_model(field.annotation), keys[1:]
    if inner is None:
        return False
    if get_origin(field.annotation) is dict:
        rest = rest[1:]
    return not rest or _field_exists(inner, rest)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (dict, list, Union, UnionType, Annotated):
        found = (_inner_model(argument) for argument in get_args(annotation))
        return next((model for model in found if model is not None), None)
    return None


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(keys):
        value = {key: value}
    return cast("dict[str, Any]", value)


def _merge(
    into: dict[str, Any],
    layer: Mapping[str, Any],
    source: str,
    origins: dict[str, str],
    at: str = "",
) -> None:
    """Tables are merged key by key; everything else replaces what was there."""
    for key, value in layer.items():
        where = f"{at}{key}"
        if isinstance(value, Mapping):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge(into[key], value, source, origins, where + ".")
        else:
            into[key] = value
            origins[where] = source


def _known(name: str, known: Mapping[str, Any], where: str) -> None:
    if name not in known:
        raise ValueError(f"{where}: {name!r} is not declared{_did_you_mean(name, known)}")


def _did_you_mean(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f" (known: {', '.join(sorted(known))})" if known else ""


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    """One line for each thing wrong: where it was written, what is wrong, the nearest key."""
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"])
        source = _origin(path, origins)
        if problem["type"] == "extra_forbidden":
            parent = _model_at(problem["loc"][:-1])
            known = parent.model_fields if parent is not None else {}
            text = f"unknown key{_did_you_mean(str(problem['loc'][-1]), known)}"
        else:
            text = problem["msg"].removeprefix("Value error, ")
        place = f"{source}: " if source else ""
        lines.append(f"{place}{path}: {text}" if path else f"{place}{text}")
    return "\n".join(lines)


def _origin(path: str, origins: Mapping[str, str]) -> str:
    """Where the value at `path`, or the list or table it stands in, was written."""
    for key, source in origins.items():
        if path and (key == path or key.startswith(path + ".") or path.startswith(key + ".")):
            return source
    return ""


def _model_at(location: tuple[str | int, ...]) -> type[BaseModel] | None:
    model: type[BaseModel] = Spec
    for part in location:
        field = model.model_fields.get(str(part))
        if field is not None:
            inner = _inner_model(field.annotation)
            if inner is None:
                return None
            model = inner
    return model
