"""Dead letters on a screen of 80 columns. Pure."""

import textwrap
from collections.abc import Mapping
from typing import Any

from seawall.cli.bodies import body_lines
from seawall.cli.moments import ago, full_time
from seawall.cli.screen import GREY, RED, YELLOW, Paint, plain_text, table

WIDTH = 80

_REASON_COLOURS = {"poison": RED, "undecodable": RED}


def render_causes(answer: Mapping[str, Any], paint: Paint, now: float) -> str:
    """What the letters died of, the most frequent cause first."""
    causes = answer["causes"]
    if not causes:
        return f"no dead letters ({answer['groups']} groups looked at)"
    lines: list[str] = []
    for cause in causes:
        lines += [*_cause(cause, paint, now), ""]
    lines.append(f"{answer['total']} dead, of {len(causes)} cause{'s' * (len(causes) > 1)}")
    lines.append(f"look at one: seawall dlq show {causes[0]['example']}")
    lines.append("send them again: seawall dlq redrive --topic … --reason … (--dry-run first)")
    return "\n".join(lines)


def _cause(cause: Mapping[str, Any], paint: Paint, now: float) -> list[str]:
    reason = paint(cause["reason"], _REASON_COLOURS.get(cause["reason"], YELLOW))
    first, last = ago(cause["first_at"], now), ago(cause["last_at"], now)
    span = f"{last} ago" if first == last else f"{first} to {last} ago"
    head = f"{cause['count']:>6} x {reason}  {cause['topic']} / {cause['group']}"
    place = f"  in {cause['place']}" if cause["place"] else ""
    error = textwrap.shorten(plain_text(cause["error"]) or "(no error)", 200, placeholder=" …")
    wrapped = textwrap.wrap(error, WIDTH - 9)
    lines = [head, *(f"         {line}" for line in wrapped)]
    lines.append(paint(f"         {span}, e.g. {cause['example']}{place}", GREY))
    return lines


_HEADINGS = ("ID", "REASON", "TRIES", "DIED", "TOPIC / GROUP")


def render_letters(answer: Mapping[str, Any], paint: Paint, now: float) -> str:
    """Each letter, with what it died of in a second line."""
    letters = answer["letters"]
    if not letters:
        return f"no dead letters ({answer['groups']} groups looked at)"
    rows = [
        [
            letter["id"],
            letter["reason"],
            str(letter["attempts"]),
            ago(letter["died_at"], now),
            f"{letter['topic']} / {letter['group']}",
        ]
        for letter in letters
    ]
    head, *told = table(_HEADINGS, rows, paint).splitlines()
    lines = [head]
    for row, letter in zip(told, letters, strict=True):
        said = plain_text(" ".join(letter["error"].split())) or "(no error)"
        lines += [row, paint(textwrap.shorten(f"  {said}", WIDTH - 2, placeholder=" …"), GREY)]
        lines[-1] = "  " + lines[-1]
    more = answer["total"] - len(letters)
    if more:
        lines += ["", f"{more} more; --limit {answer['total']} shows them, --topic … chooses"]
    return "\n".join(lines)


def render_whole(letter: Mapping[str, Any], paint: Paint) -> str:
    """All that is known of one letter."""
    values = {
        "message": letter["message_id"],
        "of": f"{letter['topic']} / {letter['group']}",
        "reason": paint(letter["reason"], _REASON_COLOURS.get(letter["reason"], YELLOW)),
        "attempts": str(letter["attempts"]),
        "first failure": full_time(letter["failed_at"]),
        "last failure": full_time(letter["died_at"]),
    }
    if letter["edited_at"]:
        values["edited"] = full_time(letter["edited_at"])
    if letter["key"] is not None:
        values["key"] = plain_text(letter["key"])
    width = max(map(len, values))
    lines = [f"dead letter {letter['id']}"]
    lines += [f"  {paint(f'{name:<{width}}', GREY)}  {value}" for name, value in values.items()]
    lines += ["", *_section("error", plain_text(letter["error"]).splitlines(), paint)]
    if letter["stack"]:
        lines += [f"  {line}" for line in plain_text(letter["stack"]).splitlines()]
    headers = [f"{name}: {plain_text(value)}" for name, value in sorted(letter["headers"].items())]
    lines += ["", *_section("headers", headers or ["(none)"], paint)]
    size = letter["body"]["size"]
    lines += ["", *_section(f"body, {size} bytes", body_lines(letter["body"]), paint)]
    lines += ["", paint(f"next: seawall dlq edit | redrive | purge {letter['id']}", GREY)]
    return "\n".join(lines)


def _section(name: str, lines: list[str], paint: Paint) -> list[str]:
    return [paint(name, GREY), *(f"  {line}" for line in lines)]
