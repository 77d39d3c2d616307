"""`seawall ps`: what runs."""

import argparse
import sys
import threading
from collections.abc import Mapping
from typing import Any

from seawall.cli.admin import Admin
from seawall.cli.project import project_layout
from seawall.cli.screen import (
    GREEN,
    GREY,
    RED,
    YELLOW,
    Paint,
    coloured,
    duration,
    megabytes,
    print_json,
    table,
)

_HEADINGS = (
    "",
    "INSTANCE",
    "STATE",
    "VERSION",
    "ADDRESS",
    "PID",
    "UP",
    "RESTARTS",
    "CPU",
    "MEMORY",
)

_STATE_COLOURS = {
    "ready": GREEN,
    "starting": YELLOW,
    "stopping": YELLOW,
    "unready": YELLOW,
    "waiting": RED,
    "failed": RED,
    "stopped": GREY,
}

_CLEAR = "\x1b[H\x1b[2J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-w", "--watch", action="store_true", help="show it anew each second")


def run(options: argparse.Namespace) -> int:
    admin = Admin(project_layout(options))
    paint = Paint(coloured(options, sys.stdout))
    tick = threading.Event()
    while True:
        answer = admin.get("/v1/ps")
        if getattr(options, "json", False):
            print_json(answer)
        else:
            clear = _CLEAR if options.watch and sys.stdout.isatty() else ""
            print(clear + render(answer, paint), flush=True)
        if not options.watch:
            return 0
        tick.wait(1.0)


def render(answer: Mapping[str, Any], paint: Paint) -> str:
    """The table for a person."""
    instances = answer["instances"]
    head = f"{answer['project']}  {answer['stage']}  {answer['url'] or ''}".rstrip()
    rows = [_row(instance, paint) for instance in instances]
    notes = [note for instance in instances for note in _notes(instance, paint)]
    notes += [note for service in answer.get("services", ()) for note in _shedding(service, paint)]
    return "\n".join([head, "", table(_HEADINGS, rows, paint), "", _sum(answer), *notes])


def _shedding(service: Mapping[str, Any], paint: Paint) -> list[str]:
    """That it has more to do than it can, and whether more of it would help."""
    name, notes = service["service"], []
    if service.get("shed"):
        notes.append(paint(f"{name} refuses {service['shed']:.3g} requests a second", RED))
    if service.get("capacity_limited"):
        notes.append(paint(f"{name} is capacity-limited: {service['capacity_limited']}", YELLOW))
    return ["", *notes] if notes else []


def _row(instance: Mapping[str, Any], paint: Paint) -> list[str]:
    state = instance["state"]
    colour = _STATE_COLOURS.get(state, GREY)
    mark = "●" if state == "ready" else "○"
    cpu = instance["cpu"]
    return [
        paint(mark, colour),
        instance["instance"],
        paint(state, colour),
        instance["version"] or "-",
        instance["address"] or "-",
        str(instance["pid"] or "-"),
        duration(instance["uptime_s"]) if instance["pid"] else "-",
        str(instance["restarts"]),
        "-" if cpu is None else f"{cpu * 100:.0f}%",
        megabytes(instance["memory_bytes"]),
    ]


def _notes(instance: Mapping[str, Any], paint: Paint) -> list[str]:
    """Why it is not ready, and what it said last."""
    if instance["state"] == "ready":
        return []
    name, lines = instance["instance"], []
    if instance["last_exit"]:
        again = instance["next_start_s"]
        soon = "" if again is None else f"; starts again in {again:.1f} s"
        if instance["state"] == "failed":
            soon = f"; {instance['reason']}; when it is mended: seawall restart {name}"
        lines.append(f"{name}: {instance['last_exit']}{soon}")
        lines += [paint(f"  | {line}", GREY) for line in instance["last_words"][-5:]]
    elif instance["reason"]:
        lines.append(f"{name}: {instance['reason']}")
    return ["", *lines] if lines else []


def _sum(answer: Mapping[str, Any]) -> str:
    instances = answer["instances"]
    ready = sum(instance["state"] == "ready" for instance in instances)
    memory = sum(instance["memory_bytes"] or 0 for instance in instances)
    return f"{ready} of {len(instances)} ready, {megabytes(memory)}{_mtls(answer)}"


def _mtls(answer: Mapping[str, Any]) -> str:
    """Whether they talk by it, and whom it leaves out."""
    if not answer.get("mtls"):
        return ""
    services = [row for row in answer["instances"] if row["kind"] in ("service", "command")]
    plain = sorted({row["service"] for row in services if not row["tls"]})
    return f", mTLS except {', '.join(plain)}" if plain else ", mTLS"
