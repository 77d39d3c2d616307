"""What the processes say: stored per instance, shown at the terminal, followed by readers.

Files and terminal belong to one thread, since both may stand still (a full disk, a stopped
terminal) and the supervisor may not. Between them and the supervisor is a bounded queue; what
does not fit is counted and said.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from seawall.clock import Clock

# One file and its predecessor for each instance: 8 MB at most, some 40,000 lines.
ROTATE_AT = 4 * 1024 * 1024  # bytes

# Lines that wait for the thread: some seconds of a flood, about 4 MB.
MOST_WAITING = 20_000

# A reader that is further behind loses lines rather than costing memory.
_FOLLOWER_BEHIND = 1_000  # lines


@dataclass(frozen=True, slots=True)
class Line:
    at: float  # seconds since 1970
    instance: str
    text: str
    routine: bool = False  # stored, and of no interest to a person who watches

    def time(self) -> str:
        """RFC 3339, in UTC."""
        return datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")


Show = Callable[[Iterable[Line]], None]
"""Shows lines to a person; called in the thread."""


Read = Callable[[str], tuple[str, bool]]
"""What a line of a process says, and whether that is routine."""


def plain(text: str) -> tuple[str, bool]:
    return text, False


class LogStore:
    """Takes lines from the supervisor's loop, until `close`."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        show: Show | None = None,
        *,
        rotate_at: int = ROTATE_AT,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._folder = folder
        self._rotate_at = rotate_at
        self._most_waiting = most_waiting
        self._clock = clock
        self._show = show
        self._waiting: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._followers: dict[asyncio.Queue[Line], frozenset[str]] = {}
        self._files: dict[str, _LogFile] = {}
        self._dropped = 0
        self.trouble = ""  # why lines are not stored
        self._thread = threading.Thread(target=self._work, name="logs", daemon=True)
        self._thread.start()

    def sink(self, instance: str, read: Read = plain) -> Callable[[str], None]:
        """Where the lines of `instance` go, as `read` reads them."""

        def take(text: str) -> None:
            self.add(Line(self._clock.wall(), instance, *read(text)))

        return take

    def add(self, line: Line) -> None:
        for follower, wanted in self._followers.items():
            if (not wanted or line.instance in wanted) and not follower.full():
                follower.put_nowait(line)
        if self._waiting.qsize() >= self._most_waiting:
            self._dropped += 1
            return
        if self._dropped:
            text = f"... {self._dropped} lines dropped: they came faster than they were stored"
            self._dropped = 0
            self._waiting.put(Line(line.at, line.instance, text))
        self._waiting.put(line)

    @asynccontextmanager
    async def following(self, instances: Collection[str]) -> AsyncIterator[asyncio.Queue[Line]]:
        """New lines of these instances, or of all if none is named. A reader that is too slow
        misses some."""
        follower: asyncio.Queue[Line] = asyncio.Queue(_FOLLOWER_BEHIND)
        self._followers[follower] = frozenset(instances)
        try:
            yield follower
        finally:
            del self._followers[follower]

    def close(self) -> None:
        """Store what waits, and end the thread. It blocks for as long as the disk does, and two
        seconds at most."""
        self._waiting.put(None)
        self._thread.join(2.0)

    def _work(self) -> None:
        ending = False
        while not ending:
            batch = [self._waiting.get()]
            while len(batch) < 1000 and not self._waiting.empty():
                batch.append(self._waiting.get())
            lines = [line for line in batch if line is not None]
            ending = len(lines) < len(batch)
            self._store(lines)
            if self._show is not None:
                self._show(lines)
        for file in self._files.values():
            file.close()

    def _store(self, lines: Iterable[Line]) -> None:
        by_instance: dict[str, list[Line]] = {}
        for line in lines:
            by_instance.setdefault(line.instance, []).append(line)
        for instance, some in by_instance.items():
            if instance not in self._files:
                self._files[instance] = _LogFile(self._folder / f"{instance}.log", self._rotate_at)
            try:
                self._files[instance].write(some)
                self.trouble = ""
            except OSError as exc:  # disk full: the service goes on, the terminal shows its lines
                self.trouble = f"{exc.filename or self._folder}: {exc.strerror}"


class _LogFile:
    """Unbuffered, so that what a full disk refused is not tried again with every later line."""

    def __init__(self, path: Path, rotate_at: int) -> None:
        self._path = path
        self._rotate_at = rotate_at
        self._file: FileIO | None = None
        self._size = 0

    def write(self, lines: Iterable[Line]) -> None:
        if self._file is None or self._size > self._rotate_at:
            self._reopen()
        assert self._file is not None
        text = "".join(f"{line.time()} {line.text}\n" for line in lines)
        self._size += self._file.write(text.encode("utf-8", "replace")) or 0

    def _reopen(self) -> None:
        self.close()
        if self._path.exists() and self._path.stat().st_size > self._rotate_at:
            self._path.replace(self._path.with_suffix(".log.1"))
        self._file = FileIO(self._path, "a")
        self._size = self._path.stat().st_size

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def read_logs(folder: Path, wanted: Callable[[str], bool], tail: int) -> list[Line]:
    """The last `tail` stored lines of the instances that are `wanted`, in order of time."""
    lines: list[Line] = []
    for path in sorted(folder.glob("*.log")):
        instance = path.stem
        if wanted(instance):
            found = _read(path, instance)
            if len(found) < tail and (older := path.with_suffix(".log.1")).exists():
                found = _read(older, instance) + found
            lines += found[-tail:] if tail else []
    lines.sort(key=lambda line: line.at)
    return lines[-tail:] if tail else []


def _read(path: Path, instance: str) -> list[Line]:
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        stamp, _, said = text.partition(" ")
        try:
            at = datetime.fromisoformat(stamp).timestamp()
        except ValueError:
            continue  # a line that a full disk cut
        found.append(Line(at, instance, said))
    return found


def log_row(line: Line) -> Mapping[str, Any]:
    """One line of a log, as JSON."""
    return {
        "schema": "seawall.log/1",
        "time": line.time(),
        "instance": line.instance,
        "text": line.text,
    }
