"""The table of what each broker does has the properties of the suites as its rows."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from seawall.messaging.base import Caps
from tests.support import capabilities

ROOT = Path(__file__).resolve().parents[2]


def _script() -> ModuleType:
    path = ROOT / "scripts" / "draw_capabilities.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
PAGE = SCRIPT.PAGE.read_text(encoding="utf-8")


def test_rows_are_the_properties_of_the_suites() -> None:
    named = [text for _, properties in SCRIPT.rows() for _, text in properties]
    assert list(SCRIPT.read(PAGE)) == named, "run make capabilities"
    assert len(named) >= 40
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("broker", capabilities.BROKERS)
def test_every_broker_was_tried(broker: str) -> None:
    tried = [row for row, cells in SCRIPT.read(PAGE).items() if cells[broker] != SCRIPT.UNKNOWN]
    assert len(tried) >= 40, "run make capabilities"


def test_each_field_of_caps_in_the_table_is_explained() -> None:
    used = {
        name
        for cells in SCRIPT.read(PAGE).values()
        for cell in cells.values()
        for name in re.findall(r"`(\w+)`", cell)
    }
    explained = set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE))
    assert used <= explained
    assert explained <= {field.name for field in fields(Caps)}


def test_results_of_one_broker_leave_the_columns_of_the_others() -> None:
    suite, properties = next(iter(SCRIPT.rows()))
    key, row = properties[0]
    known = {row: dict.fromkeys(capabilities.BROKERS, "yes")}
    drawn = SCRIPT.draw({key: {"sqs": "fifo, repeats"}}, known)
    line = next(line for line in drawn.splitlines() if line.startswith(f"| {row} |"))
    assert line == f"| {row} | " + "yes | " * 6 + "`fifo`, `repeats` |"
    assert capabilities.SUITES[suite] in drawn
