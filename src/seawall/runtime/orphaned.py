"""What a warm parent does when its supervisor has died: it waits for the next one.

Its replicas go on serving meanwhile. It listens on a Unix socket of its own, in the project's
folder; a supervisor that is started finds it there, and takes over parent and replicas as they
are. If none comes, the parent ends them as one that was told to.
"""

import array
import contextlib
import fcntl
import os
import select
import socket
import termios
from collections.abc import Callable, Collection, Mapping

from seawall.clock import SYSTEM

# A service manager starts a supervisor again within a second or two, a person who sees it die
# within ten. Longer, and what nobody wants any more would go on consuming messages.
HEIR_WITHIN = 10.0  # seconds

# A pipe holds 64 KB, and a child that finds it full stops in the midst of its work. Up to here
# what it says waits for the next supervisor; from here on it is lost.
_FULL = 48 * 1024  # bytes

# Between two looks at the pipes: a child that says a megabyte a second fills one in this time.
_LOOK = 0.05  # seconds


def meeting_place(prefix: str, pid: int) -> str:
    """Where the parent `pid` waits; all of a project's are found by `prefix`."""
    return f"{prefix}-{pid}.sock"


def await_heir(
    prefix: str, wake: int, pipes: Callable[[], Collection[int]], reap: Callable[[], None]
) -> socket.socket | None:
    """The connection of the next supervisor, or None if none came in time.

    `reap` is called when `wake` is readable: a child has died. `pipes` are the children's output.
    """
    path = meeting_place(prefix, os.getpid())
    until = SYSTEM.now() + HEIR_WITHIN
    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.bind(path)
            door.listen(1)
        except OSError:  # the folder is gone: so is whoever might come
            return None
        try:
            poll = select.poll()
            poll.register(door, select.POLLIN)
            poll.register(wake, select.POLLIN)
            while SYSTEM.now() < until:
                ready = {fd for fd, _ in poll.poll(_LOOK * 1000)}
                if wake in ready:
                    reap()
                if door.fileno() in ready:
                    return door.accept()[0]
                _relieve(pipes())
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
    return None


def _relieve(pipes: Collection[int]) -> None:
    for pipe in pipes:
        waiting = array.array("i", [0])
        fcntl.ioctl(pipe, termios.FIONREAD, waiting)
        if waiting[0] > _FULL:
            with contextlib.suppress(BlockingIOError):
                os.read(pipe, _FULL)


def hand_over(heir: socket.socket, facts: Collection[tuple[str, Mapping[str, int]]]) -> bool:
    """Tell it all, a line and the descriptors beside it; False if it has gone already."""
    try:
        for line, fds in facts:
            data = line.encode() + b"\n"
            sent = socket.send_fds(heir, [data], list(fds.values()))
            if sent < len(data):  # else it may have heard all and gone
                heir.sendall(data[sent:])
    except OSError:
        return False
    return True
