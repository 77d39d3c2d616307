"""`seawall canary`: new code for a part of the requests, until it is known to be good or bad."""

import argparse
from collections.abc import Mapping
from typing import Any

from seawall.cli.admin import Admin
from seawall.cli.failure import USAGE, Failure
from seawall.cli.project import project_layout
from seawall.cli.screen import plain_text, print_json

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

_LAST_LINES = 8  # of what the new code said before it was ended


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SVC", help="orders")
    parser.add_argument("--weight", default="10%", metavar="P", help="of the requests (10%%)")
    parser.add_argument(
        "--for", default="60s", metavar="T", dest="watch", help="how long it is watched (60s)"
    )


def run(options: argparse.Namespace) -> int:
    share, watch = percentage(options.weight), seconds(options.watch)
    admin = Admin(project_layout(options), timeout=None)
    asked = {"service": options.service, "share": share, "watch": watch}
    step: Mapping[str, Any] = {}
    for step in admin.work("/v1/canary", asked):
        if getattr(options, "json", False):
            print_json(step)
        else:
            print(line(step), flush=True)
    if step.get("verdict") != "promoted":
        said = [plain_text(text) for text in step.get("last_words", ())[-_LAST_LINES:]]
        raise Failure(
            f"{options.service} goes on with the code from before",
            why="\n  | ".join([str(step.get("reason") or "the trial did not end"), *said]),
            fix=f"mend it, and try again; seawall logs {options.service}-canary-1",
        )
    return 0


def line(step: Mapping[str, Any]) -> str:
    """A step for a person."""
    told = f"{step['service']} {step['version'] or ''}".rstrip()
    text = f"{told}: {step['verdict']}, {step['reason']}"
    if step["verdict"] == "watching":
        return text
    new, old = step["canary"], step["stable"]
    return (
        f"{text} ({new['mean_s'] * 1000:.1f} ms a request; the old ones: {old['requests']}"
        f" requests, {old['failed']} failed, {old['mean_s'] * 1000:.1f} ms)"
    )


def percentage(text: str) -> float:
    """`10%` or `10`, as a share. Raises `Failure`."""
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise Failure(f"--weight {text} is no part of the requests", fix="10%", status=USAGE)
    return value


def seconds(text: str) -> float:
    """`60`, `60s`, `5m` or `1h`. Raises `Failure`."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        value = float(number) * _UNITS[unit]
    except ValueError:
        value = 0.0
    if not 0 < value <= 86_400:
        raise Failure(f"--for {text} is no time", fix="60s, 5m or 1h", status=USAGE)
    return value
