"""Label selectors as Kubernetes writes them into a query: `service=orders,zone in (a, b)`. Pure."""

import re
from collections.abc import Callable, Mapping

from seawall.errors import Misconfigured

Labels = Mapping[str, str]
Selector = Callable[[Labels], bool]

# What autoscalers send has a handful of conditions, and nobody else asks.
_LONGEST = 4096  # characters

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_EQUAL = re.compile(rf"({_NAME})\s*(==|=|!=)\s*({_VALUE})")
_AMONG = re.compile(rf"({_NAME})\s+(in|notin)\s+\(([^()]*)\)")
_THERE = re.compile(rf"(!?)\s*({_NAME})")
# Commas between conditions, not those in brackets.
_BETWEEN = re.compile(r",(?![^()]*\))")


def selector(text: str) -> Selector:
    """What holds for the labels that `text` selects; "" selects all. Raises `Misconfigured`."""
    if len(text) > _LONGEST:
        raise Misconfigured(f"a label selector of more than {_LONGEST} characters")
    parts = [part.strip() for part in _BETWEEN.split(text)] if text.strip() else []
    conditions = [_condition(part) for part in parts]
    return lambda labels: all(holds(labels) for holds in conditions)


def _condition(text: str) -> Selector:
    if match := _EQUAL.fullmatch(text):
        name, operator, value = match.groups()
        if operator == "!=":  # which holds for what has no such label, too
            return lambda labels: labels.get(name) != value
        return lambda labels: labels.get(name) == value
    if match := _AMONG.fullmatch(text):
        name, operator, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda labels: labels.get(name) in values
        return lambda labels: labels.get(name) not in values
    if match := _THERE.fullmatch(text):
        absent, name = match.groups()
        return lambda labels: (name in labels) != bool(absent)
    raise Misconfigured(
        f"{text!r} is no condition on labels", fix="service=orders, a!=b, a in (b, c), a or !a"
    )
