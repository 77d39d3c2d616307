"""`seawall config`: what the project's configuration is, and whether it is right."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from seawall.cli.project import project_spec
from seawall.cli.screen import GREY, Paint, coloured, print_json

# A key with one of these in its name is a secret, whatever its value.
_SECRET = ("secret", "password", "token", "credential", "private")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("show", "check"))
    parser.add_argument("--origin", action="store_true", help="say where each value comes from")


def run(options: argparse.Namespace) -> int:
    spec = project_spec(options)
    as_json = getattr(options, "json", False)
    values = dict(_flat(spec.model_dump(mode="json")))
    if options.what == "check":
        if as_json:
            print_json({"schema": "seawall.config-check/1", "ok": True})
        else:
            told = f"{spec.project.name}: {len(spec.services)} services, no mistakes"
            print(told, file=sys.stderr)
        return 0
    if as_json:
        origins = {key: _origin(key, spec.origins) for key in values}
        print_json({"schema": "seawall.config/1", "values": values, "origins": origins})
        return 0
    paint = Paint(coloured(options, sys.stdout))
    for key, value in values.items():
        origin = f"  # {_origin(key, spec.origins)}" if options.origin else ""
        print(f"{key} = {json.dumps(value)}{paint(origin, GREY)}")
    return 0


def _flat(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{at}{key}.")
        elif value not in (None, [], {}):
            yield f"{at}{key}", _masked(key, value)


def _masked(key: str, value: Any) -> Any:
    """Secrets are not shown, nor are passwords inside URLs."""
    if any(word in key.lower() for word in _SECRET):
        return "***"
    if isinstance(value, str) and "://" in value and "@" in value:
        scheme, _, rest = value.partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}"
    if isinstance(value, list):
        return [dict(_flat(item)) if isinstance(item, dict) else item for item in value]
    return value


def _origin(key: str, origins: Mapping[str, str]) -> str:
    while key:
        if key in origins:
            return origins[key]
        key = key.rpartition(".")[0]
    return "default"
