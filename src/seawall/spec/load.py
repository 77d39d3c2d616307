"""Reading the project: files, environment and flags into one `Spec`.

A value is taken from the first of these that has it:

    a flag of the command              --port 9000
    an environment variable            SEAWALL_GATEWAY__PORT=9000
    the profile's file                 seawall.prod.toml   (--profile prod, or SEAWALL_PROFILE)
    the project's file                 seawall.toml, or [tool.seawall] in pyproject.toml
    the default of its field

An environment variable is `SEAWALL_` and the path with `__` between its parts; a list or table
is written as JSON. With `_FILE` behind its name it holds the path of a file with the value, as
Docker and Kubernetes hand out secrets. An unknown key is an error, never ignored.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from seawall.errors import Misconfigured
from seawall.spec.part import did_you_mean
from seawall.spec.project import Spec

FILE = "seawall.toml"

# Variables of a service's own process that look like paths but are none of the project's.
_NOT_OURS = frozenset({"SEAWALL_DATABASE__URL", "SEAWALL_DATABASE__URL_FILE"})


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
            raise Misconfigured(f"{name}: no service {keys[1]!r}{did_you_mean(keys[1], known)}")
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


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    """One line for each thing wrong: where it was written, what is wrong, the nearest key."""
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"])
        source = _origin(path, origins)
        if problem["type"] == "extra_forbidden":
            parent = _model_at(problem["loc"][:-1])
            known = parent.model_fields if parent is not None else {}
            text = f"unknown key{did_you_mean(str(problem['loc'][-1]), known)}"
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
