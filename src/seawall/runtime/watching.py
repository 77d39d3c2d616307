"""Whose files changed: `seawall up --watch` reloads the services they belong to, and no others.

The files are looked at, not waited for: two thousand of them take some ten milliseconds, and what
would wait for them is another binary dependency, with a limit of its own on each system.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from seawall.clock import Clock
from seawall.errors import Refused
from seawall.facts import Observer
from seawall.runtime.fleet import Fleet
from seawall.spec.project import ServiceSpec

# As soon as a person expects it, and seldom enough to cost a hundredth of a core.
_EVERY = 0.5  # seconds

# What a person changes and a process reads when it starts.
_SUFFIXES = frozenset(
    {".py", ".js", ".mjs", ".cjs", ".ts", ".go", ".rb", ".html", ".json", ".toml"}
)

# Folders in which nobody edits.
_NOT_OURS = frozenset({"__pycache__", "node_modules", "venv", "build", "dist"})

# A project with more files than this has something in its folder that is not its code.
_MOST = 20_000

Seen = Mapping[Path, int]
"""Files and when they were changed, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class FilesChanged:
    """Files of a service changed, and it is being reloaded."""

    service: str
    paths: tuple[Path, ...]


def look(folder: Path) -> dict[Path, int]:
    """The files under `folder` that a process may have read. Blocks."""
    seen: dict[Path, int] = {}
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "." and name not in _NOT_OURS]
        for name in files:
            path = Path(here, name)
            if path.suffix in _SUFFIXES and len(seen) < _MOST:
                try:
                    seen[path] = path.stat().st_mtime_ns
                except OSError:  # gone between the two looks
                    continue
    return seen


def changed(before: Seen, after: Seen) -> list[Path]:
    """Those that are new, gone, or were written."""
    return sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))


def home(spec: ServiceSpec, root: Path) -> tuple[Path, Path]:
    """What is a service's own (without a suffix), and the folder of what it may share."""
    folder = (root / spec.cwd).resolve()
    if spec.module is None:
        words = [word for word in spec.command or () if "/" in word]
        own = (folder / words[0]).parent if words else folder
        return own, own
    parts = spec.module.partition(":")[0].split(".")
    # A module alone in a package of its own has the package: orders.app is all of orders.
    own = folder.joinpath(*(parts[:-1] if len(parts) == 2 else parts))
    return own, folder / parts[0]


def owners(path: Path, services: Mapping[str, ServiceSpec], root: Path) -> list[str]:
    """The services that `path` belongs to; where it is none's own, those that may share it."""
    homes = {name: home(spec, root) for name, spec in services.items()}
    bare = path.with_suffix("")
    own = [name for name, (its, _) in homes.items() if _under(bare, its)]
    return own or [name for name, (_, shared) in homes.items() if _under(bare, shared)]


def _under(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


class Watching:
    """Reloads what changed, while `run` runs."""

    def __init__(
        self,
        root: Path,
        services: Mapping[str, ServiceSpec],
        fleets: Mapping[str, Fleet],
        *,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._root = root
        self._services = services
        self._fleets = fleets
        self._observer = observer
        self._clock = clock

    async def run(self) -> None:
        before = await asyncio.to_thread(look, self._root)
        while True:
            await self._clock.sleep(_EVERY)
            after = await asyncio.to_thread(look, self._root)
            paths, before = changed(before, after), after
            await asyncio.gather(*(self._reload(*found) for found in self._concerned(paths)))

    def _concerned(self, paths: Iterable[Path]) -> list[tuple[str, tuple[Path, ...]]]:
        concerned: dict[str, list[Path]] = {}
        for path in paths:
            for name in owners(path, self._services, self._root):
                concerned.setdefault(name, []).append(path)
        return [(name, tuple(of)) for name, of in concerned.items() if name in self._fleets]

    async def _reload(self, name: str, paths: tuple[Path, ...]) -> None:
        self._observer(FilesChanged(name, paths))
        fleet = self._fleets[name]
        try:
            async for _ in fleet.reload():
                pass  # what fails is told as a fact
        except Refused:  # two processes cannot be there at the same time
            await fleet.restart()
