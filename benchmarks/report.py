"""What every benchmark prints and writes: one table, and the same rows as JSON."""

import json
import os
import platform
import sysconfig
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

Row = Mapping[str, str | int | float]


def machine() -> dict[str, str | int]:
    """The machine, named well enough to know whether two runs may be compared."""
    model = "unknown CPU"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = (line for line in cpuinfo.read_text().splitlines() if line.startswith("model name"))
        model = next(names, f": {model}").split(":", 1)[1].strip()
    python = f"{platform.python_version()}, {_optimised()}"
    return {"cpu": model, "cores": os.cpu_count() or 0, "python": python}


def _optimised() -> str:
    """How this Python was built, which is worth a tenth of what is interpreted."""
    said = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    words = {"--enable-optimizations": "PGO", "--with-lto": "LTO"}
    return "+".join(name for word, name in words.items() if word in said) or "without PGO"


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions of Python packages; `-` where one is not installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "-"
    return found


def table(title: str, columns: Sequence[str], rows: Sequence[Row]) -> str:
    """A table in plain text; numbers to the right, rounded to three figures of meaning."""
    lines = [list(columns)] + [[_cell(row.get(column, "-")) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    text = [title]
    for line in lines:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _cell(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value


def write(name: str, rows: Sequence[Row], used: Mapping[str, str]) -> Path:
    """Write `build/bench/NAME.json` and return its path."""
    path = Path("build/bench") / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "versions": dict(used), "rows": [dict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path
