"""`seawall gateway check`, `diff` and `reload`: the configuration of gateways that run."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seawall.cli.admin import Admin
from seawall.cli.failure import FAILED, PARTIAL, Failure
from seawall.cli.project import project_layout, project_spec
from seawall.cli.screen import print_json
from seawall.errors import Misconfigured

# Longer values are lists and bodies, which nobody reads on a line.
_MOST = 60  # characters


def run(options: argparse.Namespace) -> int:
    if options.what == "check":
        return _check(options)
    dry_run = options.what == "diff" or options.dry_run
    # Each gateway has its own patience.
    answer = Admin(project_layout(options), timeout=None).post(
        "/v1/gateway/reload", {"dry_run": dry_run}
    )
    if getattr(options, "json", False):
        print_json(answer)
    else:
        print("\n".join(rendered(answer)))
    return _status(answer["gateways"])


def _check(options: argparse.Namespace) -> int:
    """Whether gateways would take it: all that they would do but serve."""
    try:
        spec = project_spec(options)
        from seawall.runtime.gateway_check import checked

        revision = checked(spec)
    except Misconfigured as wrong:
        code = type(wrong).__name__
        raise Failure(wrong.reason, fix=wrong.fix, status=FAILED, code=code) from wrong
    routes = len(spec.gateway.routes)
    if getattr(options, "json", False):
        told = {"schema": "seawall.gateway-check/1", "ok": True, "routes": routes}
        print_json(told | {"revision": revision})
    else:
        print(f"{routes} routes, no mistakes; revision {revision}", file=sys.stderr)
    return 0


def _status(gateways: Sequence[Mapping[str, Any]]) -> int:
    failed = sum(not row["ok"] for row in gateways)
    if not failed and gateways:
        return 0
    return PARTIAL if failed < len(gateways) else FAILED


def rendered(answer: Mapping[str, Any]) -> Iterator[str]:
    """For a person: what each gateway says, and once what all of them say alike."""
    gateways = answer["gateways"]
    if not gateways:
        yield "no gateway is ready"
        return
    last = None
    for row in gateways:
        if not row["ok"]:
            yield f"{row['instance']}: stays at revision {row['revision'] or 'unknown'}"
            yield f"  {row['error']['message']}"
            if row["error"]["fix"]:
                yield f"  fix: {row['error']['fix']}"
            continue
        changes = row["changes"]
        before, after = changes["revision"]["before"], changes["revision"]["after"]
        would = "would be" if answer["dry_run"] else "is"
        moved = f"{before} -> {after}" if before != after else f"{after}, as before"
        yield f"{row['instance']}: {would} at revision {moved}"
        if changes != last:
            yield from _changes(changes)
        last = changes


def _changes(changes: Mapping[str, Any]) -> Iterator[str]:
    routes = changes["routes"]
    yield from (f"  + route {name}" for name in routes["added"])
    yield from (f"  - route {name}" for name in routes["removed"])
    for route in routes["changed"]:
        yield f"  ~ route {route['name']}"
        yield from (f"      {_line(one)}" for one in route["fields"])
    if routes["reordered"]:
        yield "  ~ routes stand in another order"
    yield from (f"  ~ {_line(one)}" for one in changes["settings"])
    yield from (f"  ! {_line(one)}  (needs a restart)" for one in changes["needs_restart"])


def _line(one: Mapping[str, Any]) -> str:
    return f"{one['path']}: {_short(one['before'])} -> {_short(one['after'])}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
