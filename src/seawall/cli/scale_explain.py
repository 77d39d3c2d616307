"""`seawall scale explain SVC`: what the autoscaler decided, with its inputs and its reasons."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from seawall.cli.admin import Admin
from seawall.cli.moments import ago
from seawall.cli.project import project_layout
from seawall.cli.screen import GREEN, GREY, RED, YELLOW, Paint, coloured, print_json, table
from seawall.clock import SYSTEM

_HEADINGS = ("AGO", "WAS", "NOW", "READY", "OF WHAT", "SHED", "REASON", "LIMITS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SVC")
    parser.add_argument(
        "-n", "--limit", type=int, default=10, help="how many decisions of each kind"
    )


def run(options: argparse.Namespace) -> int:
    admin = Admin(project_layout(options))
    query = urlencode({"name": options.service, "n": options.limit})
    answer = admin.get(f"/v1/scale/explain?{query}")
    if getattr(options, "json", False):
        print_json(answer)
    else:
        print(render(answer, Paint(coloured(options, sys.stdout)), SYSTEM.wall()))
    return 0


def render(answer: Mapping[str, Any], paint: Paint, now: float) -> str:
    """The tables for a person: what changed something, then what was decided last."""
    service = answer["service"]
    targets = ", ".join(f"{each['each']:g} {each['metric']}" for each in answer["targets"])
    lines = [
        f"{service}: {answer['replicas']} replicas, {answer['minimum']} to {answer['maximum']},"
        f" {targets} each, by {answer['policy']} every {answer['every_s']:g} s",
    ]
    if answer["mode"] != "auto":
        lines.append(
            paint(f"scaled by hand: seawall scale {service}=auto lets it decide again", YELLOW)
        )
    for title, key in (("changes", "changes"), ("the last decisions", "decisions")):
        rows = [_row(each, paint, now) for each in answer[key]]
        lines += ["", paint(title, GREY), table(_HEADINGS, rows, paint) if rows else "none yet"]
    return "\n".join(lines)


def _row(decision: Mapping[str, Any], paint: Paint, now: float) -> list[str]:
    was, desired = decision["was"], decision["desired"]
    colour = GREEN if desired > was else YELLOW if desired < was else GREY
    metrics = decision["metrics"].items()
    return [
        ago(decision["at"], now),
        str(was),
        paint(str(desired), colour),
        str(decision["ready"]),
        "  ".join(
            f"{name} {_amount(value)}" if value is not None else paint(f"{name} ?", RED)
            for name, value in metrics
        ),
        paint(f"{_amount(shed)}/s", RED) if (shed := decision["shed"]) else "-",
        decision["reason"],
        " ".join(decision["limits"]) or "-",
    ]


def _amount(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
