"""One supervisor a project, and none beside the processes of one that was killed.

Both are `flock`s: the kernel gives them back when the last process that holds one has died, so
neither can be stale.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from seawall.clock import Clock
from seawall.errors import Misconfigured, Refused
from seawall.runtime.layout import Layout


class AlreadyRunning(Refused):
    """Another supervisor runs this project."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"this project is already running (pid {pid})")
        self.pid = pid


class StillEnding(Refused):
    """Processes of a supervisor that was killed have not ended yet."""


class Lock:
    """A file that only one holds. Children given `fd` hold it too, until the last has ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise Misconfigured(f"{path} cannot be opened: {exc.strerror}") from exc

    def try_take(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def inherit(self, fd: int) -> None:
        """Hold it with those that hold it already: `fd` is theirs, and is closed."""
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)
        self.note(pid=os.getpid())

    def note(self, **values: object) -> None:
        """Say who holds it, for people; the lock itself needs no text."""
        with suppress(OSError):  # a full disk
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, json.dumps(values).encode(), 0)

    def holder(self) -> int | None:
        try:
            return int(json.loads(os.pread(self.fd, 4096, 0))["pid"])
        except (ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def sole_supervisor(layout: Layout) -> Iterator[Lock]:
    """Be the only one for as long as the block runs; raises `AlreadyRunning`."""
    with Lock(layout.supervisor_lock) as lock:
        if not lock.try_take():
            raise AlreadyRunning(lock.holder())
        lock.note(pid=os.getpid())
        yield lock


async def processes_of_before_gone(lock: Lock, within: float, clock: Clock) -> None:
    """Wait for what an earlier supervisor left to end; raises `StillEnding` after `within`
    seconds."""
    until = clock.now() + within
    while not lock.try_take():
        if clock.now() > until:
            raise StillEnding(
                f"processes of an earlier run (supervisor {lock.holder()}) have not ended "
                f"within {within:g} s"
            )
        await clock.sleep(0.05)
    lock.note(pid=os.getpid())
