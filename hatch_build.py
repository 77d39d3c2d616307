"""The compiled build: what every request passes, as C extensions made by mypyc from its source.

    SEAWALL_COMPILE=1 pip install .    a wheel with extensions; it fails where none can be made
    python hatch_build.py              in a checkout: prints the folder for PYTHONPATH
    python hatch_build.py --quickly    the same C, for tests: its compiler makes less of an effort

Without the variable the wheel is pure Python and needs no compiler. The extensions stand beside
the modules that they were made from, and Python prefers them.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent

# Of the gateway, what waits: its control side.
CONTROL = (
    *("__init__", "acting", "admin", "changes", "describing", "extension", "filters_page"),
    *("gateway", "health", "leases", "ledger", "ledger_valkey", "planner"),
)

# Compiled as one group, so that calls between them are calls in C. The gateway's control side
# stays as it is: it waits for nothing but time, and mypyc knows no asynchronous generators.
COMPILED = (
    *(
        f"wire/{name}"
        for name in (
            *("chunked", "digits", "fields", "forwarded", "headers", "http1", "proxy_protocol"),
            *("target", "trace", "websocket"),
        )
    ),
    *(
        f"resilience/{name}"
        for name in (
            *("adaptive", "admission", "balancer", "breaker", "budget", "consistent_hash"),
            *("deadline", "hedge"),
            *("limiter", "outlier", "peak_ewma", "quantile", "rate_fields", "rise_fall"),
            *("sampling", "sharing", "shed", "sliding", "window"),
        )
    ),
    *(
        f"gateway/{path.stem}"
        for path in sorted((ROOT / "src/seawall/gateway").glob("*.py"))
        if path.stem not in CONTROL
    ),
)

# With -O3 a request takes 2 % fewer instructions of ours (callgrind), and the compiler much longer.
_LEVEL = "1"

# With -O0 the compiler takes less than half of what -O1 takes it.
_QUICKLY = "0"

REQUIREMENTS = ["mypy>=1.15", "setuptools>=65.5"]

# In a process of its own, since setuptools and mypyc are for one call each.
_BUILD = """
import sys
from mypyc.build import mypycify
from setuptools import setup
folder, level, *sources = sys.argv[1:]
extensions = mypycify(
    ["--ignore-missing-imports", *sources], opt_level=level, debug_level="0", group_name="seawall"
)
setup(
    name="seawall",
    ext_modules=extensions,
    script_args=["--quiet", "build_ext", "--build-lib", folder],
)
"""


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds the extensions to a wheel if `SEAWALL_COMPILE` is 1."""

    def dependencies(self) -> list[str]:
        return REQUIREMENTS if _is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or not _is_wanted():
            return
        folder = compiled()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"] |= {
            str(path): str(path.relative_to(folder)) for path in _extensions(folder)
        }


def _is_wanted() -> bool:
    return os.environ.get("SEAWALL_COMPILE", "0") == "1"


def can_compile() -> bool:
    """Whether a C compiler and the headers of this Python are here."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return shutil.which(compiler) is not None and header.is_file()


def compiled(level: str = _LEVEL) -> Path:
    """A folder with the whole package, compiled for this Python; made anew if a source changed.

    What the compiled modules import is not looked at: values are checked where they cross.
    """
    abi = str(sysconfig.get_config_var("SOABI"))
    folder = ROOT / "build" / "compiled" / (abi if level == _LEVEL else f"{abi}-O{level}")
    _copy(folder)
    digest = _digest(folder)
    stamp = folder / "sources.sha256"
    if not stamp.is_file() or stamp.read_text() != digest:
        for old in (stamp, *_extensions(folder)):
            old.unlink(missing_ok=True)
        _compile(folder, level)
        stamp.write_text(digest)
    return folder


def _copy(folder: Path) -> None:
    """Make `folder` hold the sources as they are now, and nothing that was one of them."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "src", folder, dirs_exist_ok=True, ignore=unwanted)
    for path in folder.rglob("*.py"):
        if not (ROOT / "src" / path.relative_to(folder)).exists():
            path.unlink()


def _compile(folder: Path, level: str) -> None:
    # Names of modules are made from relative paths, so this happens in a folder with copies. The
    # package's front door is shut there: all of Seawall, and what it uses, would be type-checked.
    work = ROOT / "build" / "compiled" / "work"
    _copy(work)
    (work / "seawall" / "__init__.py").write_text("")
    command = [sys.executable, "-c", _BUILD, str(folder), level, *_sources()]
    subprocess.run(command, cwd=work, stdout=sys.stderr, check=True)


def _sources() -> list[str]:
    return [f"seawall/{module}.py" for module in COMPILED]


def _digest(folder: Path) -> str:
    digest = hashlib.sha256(f"{_BUILD} {version('mypy')}".encode())
    for source in _sources():
        digest.update(f"{source}\n".encode() + (folder / source).read_bytes())
    return digest.hexdigest()


def _extensions(folder: Path) -> Iterator[Path]:
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    yield from folder.glob(f"*{suffix}")
    yield from (folder / "seawall").rglob(f"*{suffix}")


if __name__ == "__main__":
    if not can_compile():
        sys.exit("no C compiler, or no headers of Python: apt-get install gcc python3-dev")
    print(compiled(_QUICKLY if "--quickly" in sys.argv else _LEVEL))  # noqa: T201 - its answer
