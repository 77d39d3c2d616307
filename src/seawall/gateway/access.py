"""The access log: one JSON object a line, one line a request.

Lines are gathered and written by count and by time in the event loop (a thread of its own doubled
the 99th percentile). Writing never waits: what a reader does not take is dropped and counted,
since a log must not stop what it logs.
"""

import os
import select
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

# Lines that are written at once. About 80 KB, below which each write costs more per line.
BATCH: Final = 256
# What is kept for a reader that does not take it; then whole batches are dropped.
MAX_BACKLOG: Final = 4 * 1024 * 1024


class Stamp:
    """Wall clock time as RFC 3339 with milliseconds; each text is made once."""

    __slots__ = ("_last", "_millisecond", "_offset", "_second")

    def __init__(self) -> None:
        self._offset: float = 0.0
        self._millisecond: int = -1
        self._second: bytes = b""
        self._last: bytes = b""

    def settle(self, now: float, wall: float) -> None:
        """Take over the clocks' difference; often enough that a stepped clock is seen."""
        self._offset = wall - now

    def text(self, now: float) -> bytes:
        millisecond = int((now + self._offset) * 1000)
        if millisecond != self._millisecond:
            if millisecond // 1000 != self._millisecond // 1000 or not self._second:
                moment = datetime.fromtimestamp(millisecond // 1000, UTC)
                self._second = moment.strftime("%Y-%m-%dT%H:%M:%S").encode()
            self._millisecond = millisecond
            self._last = b"%b.%03dZ" % (self._second, millisecond % 1000)
        return self._last


class AccessLog:
    """Gathers lines and hands them to `write`, which returns how many bytes it took."""

    __slots__ = ("_backlog", "_lines", "_write", "dropped", "is_on", "stamp")

    def __init__(self, write: Callable[[bytes], int] | None) -> None:
        self._write: Callable[[bytes], int] | None = write
        self.is_on: bool = write is not None
        self._lines: list[bytes] = []
        self._backlog: bytes = b""
        self.stamp: Stamp = Stamp()
        self.dropped: int = 0  # lines

    def add(self, line: bytes) -> None:
        """Take a line, with its line feed."""
        lines = self._lines
        lines.append(line)
        if len(lines) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered."""
        write, lines = self._write, self._lines
        if write is None or not (lines or self._backlog):
            lines.clear()
            return
        if len(self._backlog) > MAX_BACKLOG:
            self.dropped += len(lines)
            lines.clear()
        data = self._backlog + b"".join(lines)
        lines.clear()
        self._backlog = data[write(data) :]


class LogFile:
    """Where lines go, without waiting: a file, or "-" for standard output."""

    __slots__ = ("_close", "_target", "_write")

    def __init__(self, target: str) -> None:
        self._target: str = target
        self._write: Callable[[bytes], int]
        self._close: Callable[[], None]
        self._write, self._close = opened(target)

    def write(self, data: bytes) -> int:
        """How many bytes were taken."""
        return self._write(data)

    def reopen(self) -> None:
        """Go on in a new file of the same name: the old one was moved away. Where none can be
        opened, go on in the old one."""
        if self._target == "-":
            return
        try:
            write, close = opened(self._target)
        except OSError:
            return
        self.close()
        self._write, self._close = write, close

    def close(self) -> None:
        self._close()


def opened(target: str) -> tuple[Callable[[bytes], int], Callable[[], None]]:
    """A write that never waits, and what closes it."""
    if target == "-":
        return _standard_output()
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CREAT
    descriptor = os.open(target, flags, 0o640)
    return partial(_write, descriptor), partial(os.close, descriptor)


def _standard_output() -> tuple[Callable[[bytes], int], Callable[[], None]]:
    """The inherited descriptor, left as it is: O_NONBLOCK would hold for all processes that share
    it, and with a description of our own their lines and ours would overwrite each other."""
    try:
        descriptor = os.dup(1)
    except OSError:  # we were started without one
        return len, lambda: None
    waiting = select.poll()
    waiting.register(descriptor, select.POLLOUT)

    def write(data: bytes) -> int:
        taken = 0
        while taken < len(data) and waiting.poll(0):
            step = _write(descriptor, _piece(data, taken))
            if not step:
                break
            taken += step
        return taken

    return write, partial(os.close, descriptor)


def _piece(data: bytes, start: int) -> bytes:
    """Whole lines from `start` that a pipe which is ready at all takes without waiting, and which
    no other writer's line can part (POSIX: PIPE_BUF). A line that is longer is cut."""
    end = start + select.PIPE_BUF
    if end < len(data):
        end = data.rfind(b"\n", start, end) + 1 or end
    return data[start:end]


def _write(descriptor: int, data: bytes) -> int:
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)  # the reader is gone, or the disk is full: nothing to wait for
