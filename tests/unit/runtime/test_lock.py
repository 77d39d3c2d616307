import subprocess
import sys
from pathlib import Path

import pytest

from seawall.runtime.layout import Layout
from seawall.runtime.lock import (
    AlreadyRunning,
    Lock,
    StillEnding,
    processes_of_before_gone,
    sole_supervisor,
)
from seawall.testing.clock import ManualClock

HOLD = """
import sys, time
from pathlib import Path
from seawall.runtime.layout import Layout
from seawall.runtime.lock import sole_supervisor
with sole_supervisor(Layout(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    made.prepare()
    return made


def test_a_second_supervisor_is_told_the_first(layout: Layout) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(layout.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning) as told, sole_supervisor(layout):
            pass
        assert told.value.pid == holder.pid
        holder.kill()
    with sole_supervisor(layout):  # a lock of a process that was killed is no lock
        pass


async def test_processes_of_before_are_waited_for_and_not_for_ever(layout: Layout) -> None:
    clock = PassingClock()
    began = clock.now()
    theirs = Lock(layout.processes_lock)
    assert theirs.try_take()
    with Lock(layout.processes_lock) as ours:
        with pytest.raises(StillEnding):
            await processes_of_before_gone(ours, 3.0, clock)
        assert 3.0 <= clock.now() - began < 4.0
        theirs.close()
        await processes_of_before_gone(ours, 3.0, clock)
        assert not Lock(layout.processes_lock).try_take()


class PassingClock(ManualClock):
    """Time passes as soon as somebody waits."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
