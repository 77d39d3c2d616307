"""The supervisor's end of a zygote: asks it for processes and hears of their deaths."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import NotSent
from seawall.runtime.program import Program

# Importing a service takes about a second on a busy machine; more than this is a module that
# hangs, and its replicas are then started without a warm parent of their own.
_PRELOAD_WITHIN = 15.0  # seconds


class Unfit(NotSent):
    """That module cannot be shared by forked replicas; the reason says why."""


@dataclass(frozen=True, slots=True)
class Pipe:
    """Where a child's output goes. The zygote holds `read` too: see its `discard`."""

    read: int
    write: int

    @classmethod
    def open(cls) -> "Pipe":
        read, write = os.pipe()
        os.set_blocking(read, False)
        return cls(read, write)


@dataclass(frozen=True, slots=True)
class Child:
    """A process that a zygote started for us. `ended` is its exit status, negative for a signal,
    None if its parent died and could not tell."""

    pid: int
    grace: float
    ended: asyncio.Future[int | None]


@dataclass(frozen=True, slots=True)
class _Request:
    op: str
    program: Program
    reply: asyncio.Future[Child]


class Launcher:
    """One zygote, as the supervisor sees it.

    `launch` raises `NotSent` if no process was started. When the zygote dies, its children are
    asked to end by the kernel; each is reported as ended when it has, at the latest after its
    grace, when it is killed.
    """

    def __init__(
        self,
        control: socket.socket,
        tasks: Tasks,
        clock: Clock = SYSTEM,
        *,
        children: Mapping[int, Child] | None = None,
        received: bytes = b"",
    ) -> None:
        """`children` and `received` are what was heard of a zygote that is taken over."""
        control.setblocking(False)
        self._control = control
        self._tasks = tasks
        self._clock = clock
        self._ids = itertools.count(1)
        self._sending = asyncio.Lock()
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._requests: dict[int, _Request] = {}
        self._children: dict[int, Child] = dict(children or {})
        self._received = received
        self._branches: list[Launcher] = []
        self.lost: asyncio.Future[None] = loop.create_future()
        tasks.start(self._listen(), name="zygote")

    @property
    def alive(self) -> bool:
        return not self.lost.done()

    @property
    def children(self) -> int:
        return len(self._children)

    async def preload(self, modules: Sequence[str]) -> None:
        """Have the zygote import `modules`; raises `Unfit` if it cannot fork after that."""
        await self._send({"op": "preload", "modules": list(modules)})
        try:
            async with asyncio.timeout(_PRELOAD_WITHIN):
                await asyncio.shield(self._ready)
        except TimeoutError:
            raise Unfit(f"importing {', '.join(modules)} did not end") from None

    async def launch(
        self, program: Program, log: Pipe, sockets: Mapping[str, int] | None = None
    ) -> Child:
        """Start `program`, its output going to `log`; `sockets` become descriptors that it finds
        under these names in its environment. Closes `log.write`, whatever happens."""
        fds = {"log": log.write, "discard": log.read, **(sockets or {})}
        try:
            return await self._request("launch", program, fds)
        finally:
            os.close(log.write)

    async def branch(self, program: Program, log: Pipe, modules: Sequence[str]) -> "Launcher":
        """A zygote forked from this one, with `modules` imported. Raises `Unfit` or `NotSent`."""
        ours, theirs = socket.socketpair()
        fds = {"log": log.write, "discard": log.read, "control": theirs.fileno()}
        try:
            child = await self._request("branch", program, fds)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(log.write)
        grown = Launcher(ours, self._tasks, self._clock)
        try:
            await grown.preload(modules)
        except NotSent:
            grown.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            raise
        self._branches = [*(branch for branch in self._branches if branch.alive), grown]
        return grown

    def adopt(self, branch: "Launcher") -> None:
        """That one is a branch of this one, and is closed with it."""
        self._branches.append(branch)

    async def became(self, pid: int, program: Program, sockets: Mapping[str, int]) -> None:
        """Tell the zygote that a child is another program now. Raises `NotSent`."""
        message = {"op": "became", "pid": pid, "program": program.to_json(), "fds": list(sockets)}
        await self._send(message, list(sockets.values()))

    def close(self) -> None:
        """Let the zygote and its branches end; they stop the children they still have. Calling
        it twice is fine."""
        for branch in self._branches:
            branch.close()
        if self._control.fileno() >= 0:
            with contextlib.suppress(OSError):
                # Without this word it would wait for another supervisor.
                self._control.send(b'{"op": "end"}\n')
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)

    async def _request(self, op: str, program: Program, fds: Mapping[str, int]) -> Child:
        number = next(self._ids)
        reply: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._requests[number] = _Request(op, program, reply)
        message = {"op": op, "id": number, "program": program.to_json(), "fds": list(fds)}
        await self._send(message, list(fds.values()))
        # Shielded, since a process that was started must be in our books in any case.
        return await asyncio.shield(reply)

    async def _send(self, request: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        data = json.dumps(request).encode() + b"\n"
        async with self._sending:
            while data:
                try:
                    sent = socket.send_fds(self._control, [data], list(fds))
                except BlockingIOError:
                    await self._writable()
                except OSError as exc:
                    raise NotSent(f"the parent of services is gone: {exc.strerror}") from exc
                else:
                    data, fds = data[sent:], ()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._control, _settle, ready)
        try:
            await ready
        finally:
            loop.remove_writer(self._control)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        received = self._received
        try:
            for line in received.split(b"\n")[:-1]:
                self._hear(json.loads(line))
            received = received.rpartition(b"\n")[2]
            with contextlib.suppress(ConnectionError):
                while data := await loop.sock_recv(self._control, 65536):
                    *lines, received = (received + data).split(b"\n")
                    for line in lines:
                        self._hear(json.loads(line))
        finally:
            self._control.close()
            self._mourn()

    def _hear(self, fact: Mapping[str, Any]) -> None:
        match fact:
            case {"ready": True}:
                self._ready.set_result(None)
            case {"unfit": reason}:
                _fail(self._ready, Unfit(reason))
            case {"id": number, "pid": pid}:
                request = self._requests.pop(number)
                child = Child(pid, request.program.grace, asyncio.Future())
                if request.op == "launch":  # a branch speaks for itself
                    self._children[pid] = child
                request.reply.set_result(child)
            case {"id": number, "error": reason}:
                _fail(self._requests.pop(number).reply, NotSent(reason))
            case {"pid": pid, "status": status}:
                if pid in self._children:
                    self._children.pop(pid).ended.set_result(os.waitstatus_to_exitcode(status))

    def _mourn(self) -> None:
        self.lost.set_result(None)
        gone = NotSent("the parent of services is gone")
        _fail(self._ready, gone)
        for request in self._requests.values():
            _fail(request.reply, gone)
        self._requests.clear()
        for child in self._children.values():
            self._tasks.start(self._bury(child), name=f"orphan {child.pid}")
        self._children.clear()

    async def _bury(self, child: Child) -> None:
        try:
            async with asyncio.timeout(child.grace):
                await self._gone(child.pid)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            await self._gone(child.pid)
        child.ended.set_result(None)

    async def _gone(self, pid: int) -> None:
        """Wait for a process that is not our child. A zombie counts as gone."""
        while _lives(pid):
            await self._clock.sleep(0.02)


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _fail(waiting: asyncio.Future[Any], error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
        waiting.exception()  # whoever waited may have been cancelled, and that is fine


def _lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    if sys.platform == "linux":
        try:
            return stat.read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@asynccontextmanager
async def zygote(
    folder: Path,
    *,
    lock: int | None = None,
    meeting: str = "",
    spawn: bool = False,
    clock: Clock = SYSTEM,
) -> AsyncIterator[Launcher]:
    """A warm parent for as long as the block runs; at its end it stops what it still has.

    It keeps the descriptor `lock` open for as long as it, or a process it forked, lives. If we
    are killed it waits for another supervisor at `meeting`, if that is given.
    """
    ours, theirs = socket.socketpair()
    kept = [theirs.fileno(), *([] if lock is None else [lock])]
    command = [sys.executable, "-m", "seawall.runtime.zygote", "--control", str(theirs.fileno())]
    command += [] if lock is None else ["--lock", str(lock)]
    command += ["--spawn"] if spawn else []
    command += ["--meeting", meeting] if meeting else []
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=kept,
        start_new_session=True,  # a Ctrl-C at the terminal is ours to hand on
    )
    theirs.close()
    async with Tasks() as tasks:
        launcher = Launcher(ours, tasks, clock)
        try:
            yield launcher
        finally:
            launcher.close()
            await process.wait()
            await tasks.join()
