"""The warm parent: a process that has imported what services need, and forks them.

Importing FastAPI, uvicorn, Redis and SQLAlchemy costs a process a second and 89 MB; a fork of
one that has done it costs ten milliseconds and shares the memory. The supervisor starts one such
process, and it may `branch`: a child that has imported one service's module too, from which the
replicas of that service are forked.

It talks with the supervisor over a Unix socket, one JSON object a line, descriptors beside it:

    {"op": "preload", "modules": [...]}            -> {"ready": true} or {"unfit": reason}
    {"op": "launch", "id": 1, "program": {...},    -> {"id": 1, "pid": n} or {"id": 1, "error": ...}
     "fds": ["log", "discard", NAME...]}
    {"op": "branch", "id": 2, "program": {...},    -> the same; then the branch's own socket speaks
     "fds": ["log", "discard", "control"]}
    {"op": "became", "pid": n, "program": {...},   -> nothing: a child was made another one
     "fds": [NAME...]}
    {"op": "end"}                                  -> nothing: the end is meant
    a child died                                   -> {"pid": n, "status": wait status}

Rules for whoever edits this: no threads, no event loop, nothing opened that a child must not
have. When the socket closes, the supervisor is gone. If it did not say so before it was killed,
and another may come: see `orphaned`. Then the children are stopped, the servers among them last,
and this process ends after them. So nothing is left behind by kill -9.

To the next supervisor it says what it has, before it goes on as above:

    {"parent": n, "name": "" or the branch's, "warm": [modules], "fds": ["lock"] or []}
    {"child": n, "program": {...}, "branch": false, "fds": ["discard", "SEAWALL_LISTEN_FD"...]}
    {"told": true}
"""

import argparse
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seawall.clock import SYSTEM
from seawall.runtime.kernel import die_with, name_process
from seawall.runtime.orphaned import await_heir, hand_over
from seawall.runtime.program import Program

# macOS forbids most of its libraries between fork and exec.
_FORKS = sys.platform == "linux"

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# What a child listens on.
_INHERITED = ("SEAWALL_LISTEN_FD", "SEAWALL_PROBE_FD")

# A branch waits for its own children first, and then needs a moment to end.
_BRANCH_EXTRA = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class _Child:
    program: Program
    discard: int  # the reading end of its output, held so that it can still write when we bury it
    branch: bool
    # Sockets that a supervisor gave it, and its successor will need.
    sockets: Mapping[str, int]


class Zygote:
    """Serves requests until the supervisor is gone. In a forked child, `serve` returns what the
    child is to run."""

    def __init__(
        self,
        control: socket.socket,
        *,
        spawn: bool = not _FORKS,
        lock: int | None = None,
        meeting: str = "",
    ) -> None:
        self._lock = lock  # held open, and handed on
        self._meeting = meeting  # where another supervisor finds us; empty: none will come
        self._name = ""
        self._warm: list[str] = []
        self._meant = False  # the supervisor has said that it ends
        self._control = control
        self._spawn = spawn
        self._received = b""
        self._fds: deque[int] = deque()
        self._children: dict[int, _Child] = {}
        self._wake = _wakeup_pipe()

    def serve(self) -> Program | None:
        """Return None when all is over, or, in a child, its program."""
        while True:
            poll = select.poll()
            for fd in (self._control.fileno(), self._wake[0]):
                poll.register(fd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll()}
            if self._wake[0] in ready:
                self._reap()
            if self._control.fileno() in ready:
                if not self._receive():
                    if self._inherited():
                        continue
                    self._bury()
                    return None
                while b"\n" in self._received:
                    line, _, self._received = self._received.partition(b"\n")
                    program = self._answer(json.loads(line))
                    if program is not None:
                        return program

    def _receive(self) -> bool:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, 65536, 16)
        except ConnectionResetError:
            return False
        self._fds.extend(fds)
        self._received += data
        return bool(data)

    def _inherited(self) -> bool:
        """Whether another supervisor has come, and knows what we have."""
        if self._meant or not self._meeting:
            return False
        heir = await_heir(self._meeting, self._wake[0], self._pipes, self._reap)
        if heir is None:
            return False
        self._control.close()
        self._control, self._received = heir, b""
        _close(*self._fds)
        self._fds.clear()
        return hand_over(heir, self._estate())

    def _pipes(self) -> list[int]:
        return [child.discard for child in self._children.values()]

    def _estate(self) -> list[tuple[str, Mapping[str, int]]]:
        lock = {} if self._lock is None else {"lock": self._lock}
        me = {"parent": os.getpid(), "name": self._name, "warm": self._warm, "fds": list(lock)}
        facts: list[tuple[str, Mapping[str, int]]] = [(json.dumps(me), lock)]
        for pid, child in self._children.items():
            fds = {"discard": child.discard, **child.sockets}
            fact = {"child": pid, "program": child.program.to_json(), "branch": child.branch}
            facts.append((json.dumps({**fact, "fds": list(fds)}), fds))
        return [*facts, (json.dumps({"told": True}), {})]

    def _report(self, **fact: object) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone: the next read says so
            self._control.sendall(json.dumps(fact).encode() + b"\n")

    def _answer(self, request: Mapping[str, Any]) -> Program | None:
        if request["op"] == "preload":
            self._preload(request["modules"])
            return None
        if request["op"] == "end":
            self._meant = True
            return None
        fds = {name: self._fds.popleft() for name in request["fds"]}
        program = Program.from_json(request["program"])
        if request["op"] == "became":
            self._became(request["pid"], program, fds)
            return None
        if request["op"] == "branch" and self._spawn:
            self._report(id=request["id"], error="this machine cannot fork a warm process")
            _close(*fds.values())
            return None
        return self._fork(request, program, fds)

    def _became(self, pid: int, program: Program, sockets: dict[str, int]) -> None:
        child = self._children.get(pid)
        if child is None:  # it has died already
            _close(*sockets.values())
        else:
            self._children[pid] = replace(child, program=program, sockets=sockets)

    def _preload(self, modules: Sequence[str]) -> None:
        """Import, so that children need not. What cannot be shared is said, never hidden."""
        if self._spawn:
            self._report(ready=True)
            return
        try:
            for module in modules:
                importlib.import_module(module)
        except BaseException as exc:  # noqa: BLE001 - a user's module may raise anything
            self._report(unfit=f"importing {module} failed: {exc!r}")
            return
        if _threads() > 1:
            self._report(unfit=f"importing {', '.join(modules)} started a thread")
            return
        gc.collect()
        gc.freeze()  # or the first collection in a child would copy every page
        self._warm = list(modules)
        self._report(ready=True)

    def _fork(
        self, request: Mapping[str, Any], program: Program, fds: dict[str, int]
    ) -> Program | None:
        me = os.getpid()
        # A signal sent to the child before it has its own handlers must wait, not be ignored.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        try:
            pid = os.fork()
        except OSError as exc:
            self._report(id=request["id"], error=f"cannot fork: {exc.strerror}")
            _close(*fds.values())
            return None
        else:
            if pid == 0:
                return self._in_child(me, request["op"], program, fds)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        discard = fds.pop("discard")
        sockets = {name: fds.pop(name) for name in _INHERITED if name in fds}
        _close(*fds.values())
        self._children[pid] = _Child(program, discard, request["op"] == "branch", sockets)
        self._report(id=request["id"], pid=pid)
        return None

    def _in_child(
        self, parent: int, op: str, program: Program, fds: dict[str, int]
    ) -> Program | None:
        os.setsid()
        name_process(program.name)
        self._forget_parent()
        log = fds.pop("log")
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _close(log, fds.pop("discard"))
        if op == "branch":
            self._become_branch(socket.socket(fileno=fds.pop("control")), program)
            return None
        _default_signals(execute=program.call is None)
        die_with(parent)
        os.environ.clear()
        os.environ.update(program.environment)
        for name, fd in fds.items():
            os.set_inheritable(fd, True)
            os.environ[name] = str(fd)
        if self._spawn or _threads() > 1:
            _execute_fresh(program)
        return program

    def _forget_parent(self) -> None:
        """Close what belongs to the process we were forked from."""
        self._control.close()
        _close(*self._wake)
        for child in self._children.values():
            _close(child.discard, *child.sockets.values())
        self._children.clear()
        self._received = b""

    def _become_branch(self, control: socket.socket, program: Program) -> None:
        self._control = control
        self._name, self._warm = program.name, []
        self._wake = _wakeup_pipe()
        os.environ.clear()
        os.environ.update(program.environment)
        _enter(program.folder)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake[0], 4096):
                pass
        while (pid := _dead_child()) is not None:
            # Its number is still its own, so the group is too: what it started ends with it.
            _kill_group(pid)
            _, status = os.waitpid(pid, 0)
            child = self._children.pop(pid, None)
            if child is not None:
                _close(child.discard, *child.sockets.values())
            self._report(pid=pid, status=status)

    def _bury(self) -> None:
        """The supervisor is gone: end the children, those that others need last."""
        for last in (False, True):
            wave = {pid: c for pid, c in self._children.items() if c.program.last is last}
            for pid, child in wave.items():
                if not child.branch:  # a branch has lost its supervisor too
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
            grace = max(
                (c.program.grace + _BRANCH_EXTRA * c.branch for c in wave.values()), default=0
            )
            self._wait_for(wave, SYSTEM.now() + grace)
            for pid in wave.keys() & self._children.keys():
                _kill_group(pid)
            self._wait_for(wave, SYSTEM.now() + _BRANCH_EXTRA)

    def _wait_for(self, pids: Mapping[int, _Child], deadline: float) -> None:
        self._reap()
        while pids.keys() & self._children.keys() and (left := deadline - SYSTEM.now()) > 0:
            poll = select.poll()
            poll.register(self._wake[0], select.POLLIN)
            for child in self._children.values():
                poll.register(child.discard, select.POLLIN)
            for fd, events in poll.poll(min(left, 0.2) * 1000):
                if fd != self._wake[0] and events & select.POLLIN:
                    # A full pipe would hold up the last work of a child that logs.
                    with contextlib.suppress(BlockingIOError):
                        os.read(fd, 65536)
            self._reap()


def _wakeup_pipe() -> tuple[int, int]:
    """A pipe that becomes readable when a child dies; signals meant to stop us are ignored, since
    we stop when the supervisor is gone."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read, write


def _dead_child() -> int | None:
    """The number of a child that died and was not waited for yet."""
    try:
        died = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return died.si_pid if died is not None else None


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _default_signals(*, execute: bool) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    if execute:  # Python ignores SIGPIPE; other programs expect to die of it
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _threads() -> int:
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def _enter(folder: str) -> None:
    os.chdir(folder)
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _execute_fresh(program: Program) -> None:
    """Where a fork cannot be used as it is, run the same program in a new interpreter."""
    if program.call is not None:
        run = [
            sys.executable,
            "-m",
            "seawall.runtime.zygote",
            "--run",
            json.dumps(program.to_json()),
        ]
        os.execv(sys.executable, run)


def run(program: Program) -> int:
    """Be that program; the exit status, unless it is a command, which does not return."""
    try:
        if program.call is None:
            os.chdir(program.folder)
            os.execvp(program.arguments[0], program.arguments)
        _enter(program.folder)
    except OSError as exc:
        what = exc.filename or program.arguments[0]
        sys.stderr.write(f"{program.name}: cannot run {what}: {exc.strerror}\n")
        return 127
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = [program.name, *program.arguments]
    module, _, name = (program.call or "").partition(":")
    return int(getattr(importlib.import_module(module), name)(*program.arguments) or 0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="seawall-zygote")
    parser.add_argument("--control", type=int, help="descriptor of the supervisor's socket")
    parser.add_argument("--lock", type=int, default=-1, help="descriptor held while we live")
    parser.add_argument("--meeting", default="", help="where another supervisor finds us")
    parser.add_argument("--spawn", action="store_true", default=not _FORKS)
    parser.add_argument("--run", help="a program, as JSON, to run at once")
    options = parser.parse_args(argv)
    if options.run is not None:
        return run(Program.from_json(json.loads(options.run)))
    control = socket.socket(fileno=options.control)
    os.set_inheritable(options.control, False)
    if options.lock >= 0:
        os.set_inheritable(options.lock, False)
    lock = None if options.lock < 0 else options.lock
    zygote = Zygote(control, spawn=options.spawn, lock=lock, meeting=options.meeting)
    program = zygote.serve()
    return 0 if program is None else run(program)


if __name__ == "__main__":
    raise SystemExit(main())
