"""What a supervisor that was killed has left: its warm parents, and the replicas that go on.

A parent without a supervisor waits for a while (see `orphaned`). Here the next supervisor finds
it and takes it over, with the processes that it forked, their sockets and their output.
"""

import asyncio
import contextlib
import glob
import json
import os
import socket
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seawall.clock import Clock
from seawall.concurrency.tasks import Tasks
from seawall.runtime.launcher import Child, Launcher
from seawall.runtime.program import Program

# A parent answers at once: it does nothing but wait.
_WITHIN = 2.0  # seconds

# As many as one message carries: a child has an output and two sockets.
_MOST_FDS = 16


@dataclass(slots=True)
class Heirloom:
    """One process that goes on: what it is, and the descriptors of its output and sockets."""

    child: Child
    program: Program
    fds: dict[str, int]

    @property
    def incarnation(self) -> str:
        return self.program.environment.get("SEAWALL_INCARNATION", "")

    def take_socket(self, name: str) -> socket.socket | None:
        """The socket of that name, which is the caller's from then on."""
        fd = self.fds.pop(name, None)
        return None if fd is None else socket.socket(fileno=fd)

    def close(self) -> None:
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()


@dataclass(slots=True)
class Estate:
    """All of it. Who takes a process asks by the name of its place."""

    root: Launcher | None = None
    warm: bool = False  # the root has imported what services share
    lock: int | None = None
    branches: dict[str, list[Launcher]] = field(default_factory=dict)  # the newest last
    processes: dict[str, Heirloom] = field(default_factory=dict)

    @property
    def token(self) -> str | None:
        """The operator's token, which the processes know."""
        said = (h.program.environment.get("SEAWALL_OPERATOR_TOKEN") for h in self.all())
        return next((token for token in said if token), None)

    def all(self) -> Sequence[Heirloom]:
        return tuple(self.processes.values())

    def numbers(self, service: str) -> list[int]:
        """Of the places that are filled, in order."""
        names = (name.rpartition("-") for name in self.processes)
        return sorted(int(n) for of, _, n in names if of == service and n.isdecimal())

    def get(self, instance_id: str) -> Heirloom | None:
        return self.processes.get(instance_id)

    def unwanted(self, wanted: Collection[str]) -> list[str]:
        """Those that go on in places that there are not any more."""
        return sorted(self.processes.keys() - set(wanted))

    def take(self, instance_id: str) -> Heirloom | None:
        """The process in that place, if it still lives; it is the caller's from then on."""
        heirloom = self.processes.pop(instance_id, None)
        if heirloom is not None and heirloom.child.ended.done():
            heirloom.close()
            return None
        return heirloom


@dataclass(slots=True)
class _Parent:
    """What one parent has said, and the connection on which it goes on."""

    control: socket.socket
    said: Mapping[str, Any]
    fds: dict[str, int]
    children: list[tuple[Mapping[str, Any], dict[str, int]]]
    rest: bytes


async def inherited(prefix: str, tasks: Tasks, clock: Clock) -> Estate:
    """Take over what waits; an estate of nothing where nothing does."""
    parents = await asyncio.to_thread(_met, prefix)
    return _estate(parents, tasks, clock) if parents else Estate()


def _estate(parents: Sequence[_Parent], tasks: Tasks, clock: Clock) -> Estate:
    (root,) = (parent for parent in parents if _is_root(parent))
    estate = Estate(warm=bool(root.said["warm"]))
    launchers: dict[int, Launcher] = {}
    for parent in parents:
        children = {}
        for said, fds in parent.children:
            program = Program.from_json(said["program"])
            if said["branch"]:
                _close(fds)
                continue
            child = Child(said["child"], program.grace, asyncio.Future())
            children[child.pid] = child
            estate.processes[program.name] = Heirloom(child, program, fds)
        launcher = Launcher(parent.control, tasks, clock, children=children, received=parent.rest)
        launchers[parent.said["parent"]] = launcher
        if parent is root:
            estate.root, estate.lock = launcher, parent.fds.pop("lock", None)
        _close(parent.fds)
    for said, _ in root.children:  # in the order in which they were forked
        branch = launchers.get(said["child"])
        if said["branch"] and branch is not None:
            estate.branches.setdefault(said["program"]["name"], []).append(branch)
            assert estate.root is not None
            estate.root.adopt(branch)
    return estate


def _met(prefix: str) -> list[_Parent]:
    """Every parent that waits; one answers after the other, each within a millisecond. Nobody
    where there is no root, without which branches cannot be looked after: they are let go."""
    paths = sorted(glob.glob(f"{glob.escape(prefix)}-*.sock"))
    parents = [parent for path in paths if (parent := _meet(path)) is not None]
    if sum(map(_is_root, parents)) == 1:
        return parents
    for parent in parents:
        _renounce(parent)
    return []


def _is_root(parent: _Parent) -> bool:
    return not parent.said["name"]


def _meet(path: str) -> _Parent | None:
    control = socket.socket(socket.AF_UNIX)
    control.settimeout(_WITHIN)
    try:
        control.connect(path)
        return _heard(control)
    except (OSError, ValueError, KeyError):
        control.close()
        with contextlib.suppress(OSError):
            os.unlink(path)  # it died before it could
        return None


def _heard(control: socket.socket) -> _Parent:
    """All that it says before it goes on as usual. Raises `ConnectionError` if it ends before."""
    received, fds = b"", deque[int]()
    parent = _Parent(control, {}, {}, [], b"")
    while True:
        data, more, _, _ = socket.recv_fds(control, 65536, _MOST_FDS)
        if not data:
            raise ConnectionError("the parent has ended")
        fds.extend(more)
        received += data
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            said = json.loads(line)
            if "told" in said:
                parent.rest = received
                return parent
            named = {name: fds.popleft() for name in said["fds"]}
            if "parent" in said:
                parent.said, parent.fds = said, named
            else:
                parent.children.append((said, named))


def _renounce(parent: _Parent) -> None:
    with contextlib.suppress(OSError):
        parent.control.sendall(b'{"op": "end"}\n')
    parent.control.close()
    for fds in (parent.fds, *(fds for _, fds in parent.children)):
        _close(fds)


def _close(fds: Mapping[str, int]) -> None:
    for fd in fds.values():
        os.close(fd)
