"""What the suites of messages saw each broker do: the source of the table in the docs.

    pytest tests/contract --capabilities build/capabilities.json

writes, for each property and broker of that run, whether it holds as it stands, or which fields
of `caps` say that it does not and what was asserted instead. A property that asks no field of
`caps`, or finds the usual there, is one that the broker keeps. What an earlier run wrote about
others stays in the file. `scripts/capabilities` makes the table of it.
"""

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seawall.messaging.base import Caps, Transport
from tests.support.brokers import MORE, USUAL

FOLDER = Path(__file__).resolve().parents[1] / "contract"

# The suites whose properties are rows of the table, and how its parts are headed.
SUITES = {
    "test_transport": "Messages, groups, leases, retries, dead letters",
    "test_transport_consumer": "With a consumer and a publisher",
    "test_dead_letters": "Looked at, counted, edited",
    "test_transport_faults": "When processes, brokers and networks fail",
}

BROKERS = (*USUAL, *MORE)
KEPT = "yes"
MEGABYTE = 1_000_000  # what is usual for `max_body`, at least

# What a broker has that does as the others do.
_USUAL: dict[str, Any] = {
    field.name: field.default
    for field in dataclasses.fields(Caps)
    if field.default is not dataclasses.MISSING
} | {"native_delay": True, "replay": True}

_ITEM = re.compile(r"(?:^|/)(test_\w+)\.py::test_(\w+)\[(\w+)\]$")
_READ = pytest.StashKey[set[str]]()
_FOUND: dict[str, dict[str, str]] = {}  # by "suite::property", then by broker


def properties(suite: str) -> list[str]:
    """The tests of a suite that run for more than one broker, in their order."""
    tree = ast.parse((FOLDER / f"{suite}.py").read_text(encoding="utf-8"))
    return [
        node.name.removeprefix("test_")
        for node in tree.body
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
        and node.name.startswith("test_")
    ]


class _Asked:
    """`caps`, noting which of its fields are asked for and say something unusual."""

    def __init__(self, caps: Caps, read: set[str]) -> None:
        self._caps = caps
        self._read = read

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._caps, name)
        if (name in _USUAL and value != _USUAL[name]) or (name == "max_body" and value < MEGABYTE):
            self._read.add(name)
        return value


class _Watched:
    """A transport whose `caps` are `_Asked`."""

    def __init__(self, transport: Transport, read: set[str]) -> None:
        self._transport = transport
        self._read = read

    @property
    def caps(self) -> _Asked:
        return _Asked(self._transport.caps, self._read)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def watched(transport: Transport, item: pytest.Item) -> Transport:
    """`transport`, with a note of what this test finds `caps` to say."""
    return _Watched(transport, item.stash.setdefault(_READ, set()))  # type: ignore[return-value]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--capabilities", metavar="FILE", help="write what each broker was seen to do")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    read = item.stash.setdefault(_READ, set())
    read.clear()  # what setting up asks weakens no promise
    yield
    item.user_properties.append(("caps", ", ".join(sorted(read))))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the process that collects results, whichever worker ran the test."""
    found = _ITEM.search(report.nodeid)
    if report.when != "call" or not report.passed or found is None:
        return
    suite, name, broker = found.groups()
    if suite in SUITES and broker in BROKERS:
        kept = dict(report.user_properties).get("caps") or KEPT
        _FOUND.setdefault(f"{suite}::{name}", {})[broker] = str(kept)


def pytest_sessionfinish(session: pytest.Session) -> None:
    file = session.config.getoption("--capabilities")
    if not file or hasattr(session.config, "workerinput"):
        return
    path = Path(file)
    known = json.loads(path.read_text()) if path.exists() else {}
    for name, brokers in _FOUND.items():
        known.setdefault(name, {}).update(brokers)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
