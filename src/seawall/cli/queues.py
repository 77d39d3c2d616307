"""`seawall queues`: how far consumers are behind; what waits; pause and resume them."""

import argparse
import getpass
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from seawall.cli.bodies import body_lines
from seawall.cli.desk import Desk, add_place, desk
from seawall.cli.failure import USAGE, Failure
from seawall.cli.moments import ago
from seawall.cli.screen import GREY, RED, YELLOW, Paint, coloured, print_json, table
from seawall.clock import SYSTEM

_HEADINGS = ("TOPIC / GROUP", "READY", "FLIGHT", "LATER", "DEAD", "OLDEST", "IN/S", "OUT/S")

_MOST_NAME = 30  # characters of topic and group in 80 columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("ls", "show", "peek", "pause", "resume"))
    parser.add_argument("names", nargs="*", metavar="TOPIC [GROUP]")
    parser.add_argument("-n", "--limit", type=int, default=10, help="peek: how many messages")
    parser.add_argument("--why", metavar="TEXT", default="", help="pause: for whoever finds it")
    parser.add_argument(
        "--over",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="ls, show: how long to look for rates; 0 for none",
    )
    add_place(parser)


def run(options: argparse.Namespace) -> int:
    topic, group = _names(options)
    asked, as_json = desk(options), getattr(options, "json", False)
    paint = Paint(coloured(options, sys.stdout))
    if options.what in ("pause", "resume"):
        return _switch(asked, options.what, topic, group, options.why, as_json=as_json)
    where = [(name, value) for name, value in (("topic", topic), ("group", group)) if value]
    if options.what == "peek":
        answer = asked.get("/v1/queues/peek", [*where, ("limit", str(options.limit))])
        shown = render_peek(answer, paint, SYSTEM.wall())
    else:
        answer = asked.get("/v1/queues", [*where, ("over", f"{options.over:g}")])
        now = SYSTEM.wall()
        shown = (render if options.what == "ls" else render_show)(answer, paint, now)
    if as_json:
        print_json(answer)
    else:
        print(shown)
    return 0


def _names(options: argparse.Namespace) -> tuple[str, str]:
    names: Sequence[str] = options.names
    if len(names) > 2:
        raise Failure(f"one topic and one group, not {len(names)} names", status=USAGE)
    if not names and options.what != "ls":
        fix = f"seawall queues {options.what} TOPIC [GROUP]; seawall queues ls lists them"
        raise Failure("which queue?", fix=fix, status=USAGE)
    topic, group = [*names, "", ""][:2]
    return topic, group


def _switch(asked: Desk, what: str, topic: str, group: str, why: str, *, as_json: bool) -> int:
    by = f"{getpass.getuser()}@{platform.node()}"
    answer = asked.post(
        f"/v1/queues/{what}", {"topic": topic, "group": group, "by": by, "why": why}
    )
    if as_json:
        print_json(answer)
        return 0
    name = f"{answer['topic']} / {answer['group']}".rstrip(" /")
    if what == "pause":
        said = "paused" if answer["changed"] else f"is paused already{_by(answer['paused'])}"
        print(f"{name}: {said}; seawall queues resume {answer['topic']} {answer['group']}")
    else:
        print(f"{name}: {'goes on' if answer['changed'] else 'was not paused'}")
    return 0


def render(answer: Mapping[str, Any], paint: Paint, now: float) -> str:
    """The table for a person."""
    queues = answer["queues"]
    if not queues:
        return "nobody consumes anything yet"
    lines = [table(_HEADINGS, [_row(queue, paint) for queue in queues], paint)]
    lines += _notes(answer, paint, now)
    return "\n".join(lines)


def _row(queue: Mapping[str, Any], paint: Paint) -> list[str]:
    name = _short(f"{queue['topic']} / {queue['group']}")
    return [
        paint(name, YELLOW) if queue["paused"] else name,
        _number(queue["ready"]),
        _number(queue["in_flight"]),
        _number(queue["delayed"]),
        paint(str(queue["dead"]), RED) if queue["dead"] else "0",
        _age(queue),
        _number(queue["published_per_s"]),
        _number(queue["taken_per_s"]),
    ]


def _age(queue: Mapping[str, Any]) -> str:
    age = queue["oldest_age_s"]
    return "-" if not age else ago(0.0, age)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if value < 100 else f"{value:.0f}"


def _short(name: str) -> str:
    return name if len(name) <= _MOST_NAME else f"{name[: _MOST_NAME - 1]}…"


def _notes(answer: Mapping[str, Any], paint: Paint, now: float) -> list[str]:
    notes = [
        f"paused: {each['topic']} / {each['group']}{_by(each['paused'], now)}"
        for each in answer["queues"]
        if each["paused"]
    ]
    if any(each["dead"] for each in answer["queues"]):
        notes.append("seawall dlq ls says what the dead letters died of")
    if not answer["pauses_known"]:
        notes.append(paint("what is paused is not known: name the registry with --registry", GREY))
    return ["", *notes] if notes else []


def _by(pause: Mapping[str, Any], now: float | None = None) -> str:
    since = "" if now is None else f", for {ago(pause['since'], now)}"
    by = f" by {pause['by']}" if pause["by"] else ""
    why = f" ({pause['why']})" if pause["why"] else ""
    return f"{since}{by}{why}"


def render_show(answer: Mapping[str, Any], paint: Paint, now: float) -> str:
    """All that is known of each queue, one under the other."""
    return "\n\n".join(_one(queue, paint, now) for queue in answer["queues"])


def _one(queue: Mapping[str, Any], paint: Paint, now: float) -> str:
    paused = queue["paused"]
    values = {
        "consumed by": ", ".join(queue["services"]) or "nobody that runs",
        "state": f"paused{_by(paused, now)}" if paused else "running",
        "ready": _number(queue["ready"]),
        "in flight": _number(queue["in_flight"]),
        "delayed": _number(queue["delayed"]),
        "dead": _number(queue["dead"]),
        "oldest": _age(queue),
        "published": f"{_number(queue['published_per_s'])} a second",
        "taken": f"{_number(queue['taken_per_s'])} a second",
    }
    width = max(map(len, values))
    lines = [f"  {paint(f'{name:<{width}}', GREY)}  {value}" for name, value in values.items()]
    return "\n".join([f"{queue['topic']} / {queue['group']}", *lines])


def render_peek(answer: Mapping[str, Any], paint: Paint, now: float) -> str:
    """The messages that come next."""
    name = f"{answer['topic']} / {answer['group']}"
    if not answer["messages"]:
        return f"{name}: nothing is ready"
    lines = [f"{name}: what comes next (nothing was changed by looking)"]
    for message in answer["messages"]:
        tries = message["attempts"]
        tried = f", tried {tries} time{'s' if tries > 1 else ''}" if tries else ""
        published = f"published {ago(message['published_at'], now)} ago"
        lines += ["", f"{message['message_id']}  {paint(published + tried, GREY)}"]
        lines += [f"  {line}" for line in body_lines(message["body"])]
    return "\n".join(lines)
