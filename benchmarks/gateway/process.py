"""A program on a core of its own, and what it costs there."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

PROXY_CORE = "0"
LOAD_CORE = "1"  # also the upstream's
REPOSITORY = Path(__file__).parents[2]

# What a program may take to start: Envoy about 1 s, a gateway with 10,000 routes 2 s.
STARTED_WITHIN = 20.0  # seconds
STOPPED_WITHIN = 10.0  # seconds; then it is killed


class Process:
    """A program that answers HTTP on `port`."""

    def __init__(self, pid: int, port: int) -> None:
        self.port = port
        main = psutil.Process(pid)
        self._all = [main, *main.children(recursive=True)]
        # nginx works in a child of its own; the others in the process that was started.
        self._worker = self._all[-1]

    def cpu(self) -> float:
        """Seconds of CPU so far, of the kernel's work for it too."""
        times = [each.cpu_times() for each in self._all]
        return float(sum(each.user + each.system for each in times))

    def rss(self) -> int:
        """Bytes in memory, of the worker."""
        return int(self._worker.memory_info().rss)


@contextmanager
def running(
    command: Sequence[str], port: int, *, core: str = PROXY_CORE, env: Mapping[str, str]
) -> Iterator[Process]:
    """Run it on `core` while the block is open; it answers when the block begins."""
    program = subprocess.Popen(
        ["taskset", "-c", core, *command],
        env={"PATH": os.environ["PATH"], **env},
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait(program, port)
        yield Process(program.pid, port)
    finally:
        program.send_signal(signal.SIGTERM)
        try:
            program.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def _wait(program: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < deadline and program.poll() is None:
        if _answers(port):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{program.args!r} does not answer on port {port}")


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1):
            return True
    except urllib.error.HTTPError as answer:
        answer.close()
        return answer.code == 401  # it wants a token
    except OSError:
        return False
