"""One child process: its output, its last words, and how it is stopped."""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from seawall.clock import Clock
from seawall.runtime.launcher import Child

# What a person reads to learn why it died: a Python traceback's end fits.
LAST_WORDS = 20  # lines

# A longer line is cut into several, so that a child that never ends a line costs no memory.
_LONGEST_LINE = 16 * 1024  # bytes

# The output of a dead process is in the pipe already. Longer than this the pipe is held open by
# something that left the process group, and its output is not waited for.
_OUTPUT_WITHIN = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. `status` is negative for a signal, None if nobody can know."""

    status: int | None

    def __str__(self) -> str:
        if self.status is None:
            return "ended with its parent"
        if self.status >= 0:
            return f"exited with status {self.status}"
        try:
            return f"killed by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"killed by signal {-self.status}"


Sink = Callable[[str], None]


class Output:
    """Reads a child's pipe, hands on every line to `sink` and keeps the last ones."""

    def __init__(self, fd: int, sink: Sink) -> None:
        self._fd = fd
        self.sink = sink
        self._partial = b""
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._say(line)
        while len(self._partial) > _LONGEST_LINE:
            self._say(self._partial[:_LONGEST_LINE])
            self._partial = self._partial[_LONGEST_LINE:]

    def _say(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        self.last_words.append(text)
        self.sink(text)

    def close(self) -> None:
        """Stop reading. Calling it twice is fine."""
        if self.closed.done():
            return
        if self._partial:
            self._say(self._partial)
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self.closed.set_result(None)


class Process:
    """A running child."""

    def __init__(
        self,
        child: Child,
        output: Output,
        clock: Clock,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._child = child
        self._at_end = at_end
        self._output = output
        self._clock = clock
        self.started_at = clock.now()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def last_words(self) -> tuple[str, ...]:
        return tuple(self._output.last_words)

    @property
    def lives(self) -> bool:
        return not self._child.ended.done()

    def when_ended(self, call: Callable[[], None]) -> None:
        """Have `call` called on the loop, once, when it has ended."""
        self._child.ended.add_done_callback(lambda _: call())

    def begin(self, sink: Sink) -> None:
        """What waited begins its work: its age counts from now, and its output goes to `sink`."""
        self.started_at = self._clock.now()
        self._output.sink = sink

    def age(self) -> float:
        return self._clock.now() - self.started_at

    async def wait(self) -> Exit:
        """Return when it has ended and its output was read."""
        status = await asyncio.shield(self._child.ended)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OUTPUT_WITHIN):
                await asyncio.shield(self._output.closed)
        self._output.close()
        self._at_end()
        return Exit(status)

    async def stop(self, grace: float) -> Exit:
        """SIGTERM; after `grace` seconds SIGKILL to it and to all it started."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def signal(self, number: signal.Signals) -> None:
        if self.lives:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to it and to all it started."""
        if self.lives:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<Process {self.pid} up {self.age():.1f} s>"
