"""A project that is run by `seawall up`, as a user's is."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seawall.cli.admin import Admin, NotRunning
from seawall.runtime.layout import Layout

STARTED_WITHIN = 60.0  # seconds, with a hundred replicas on a busy machine
STOPPED_WITHIN = 60.0

# A standby that was forked makes its loop and its server within this.
_PREPARED = 0.1  # seconds

SERVICE = """
import os
from seawall import Service

service = Service("hello", version="1.0.0")

@service.get("/")
async def who() -> str:
    return str(os.getpid())
"""

# With an event stream and a WebSocket that end when the service leaves.
STREAMING = (
    SERVICE
    + """
import asyncio
from fastapi import WebSocket
from fastapi.responses import StreamingResponse

@service.get("/events")
async def events() -> StreamingResponse:
    async def told():
        while True:
            yield "data: tick\\n\\n"
            await asyncio.sleep(0.5)
    return StreamingResponse(told(), media_type="text/event-stream")

@service.websocket("/socket")
async def talk(socket: WebSocket) -> None:
    await socket.accept()
    async for said in socket.iter_text():
        await socket.send_text(said)
"""
)

# A module that starts a thread when it is imported cannot be forked.
UNFORKABLE = (
    SERVICE
    + """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
)


class Project:
    """The supervisor of a project that runs, and what can be asked of it."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.pid = pid
        self._admin = Admin(Layout(folder), timeout=STARTED_WITHIN)

    def scale(self, service: str, replicas: int) -> None:
        """Returns when those that leave have left; those that come may still be starting."""
        self._admin.post("/v1/scale", {"service": service, "replicas": str(replicas)})

    def reload(self, service: str) -> None:
        for step in self._admin.work("/v1/reload", {"service": service}):
            if step["failed"]:
                raise RuntimeError(f"{step['instance']} was not reloaded: {step['failed']}")

    def instances(self, service: str) -> list[dict[str, Any]]:
        told = self._admin.get("/v1/ps")
        return [row for row in told["instances"] if row["service"] == service]

    def asleep(self) -> set[str]:
        """The services of which nothing runs, nor leaves any more."""
        told = self._admin.get("/v1/ps")
        idle = {row["service"] for row in told["services"] if not row["desired"]}
        return idle - {row["service"] for row in told["instances"]}

    def until_ready(self, service: str, count: int) -> None:
        deadline = time.monotonic() + STARTED_WITHIN
        while time.monotonic() < deadline:
            rows = self.instances(service)
            if len(rows) == count and all(row["state"] == "ready" for row in rows):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{service} has not {count} ready replicas: {self.instances(service)}")

    def until_waiting(self, service: str, standbys: int) -> None:
        """Until so many have done what they can without being a replica."""
        deadline = time.monotonic() + STARTED_WITHIN
        while time.monotonic() < deadline:
            rows = self._admin.get("/v1/ps")["services"]
            if any(row["service"] == service and row["standbys"] >= standbys for row in rows):
                time.sleep(_PREPARED)
                return
            time.sleep(0.05)
        raise RuntimeError(f"{service} has not {standbys} standbys")

    def running(self) -> bool:
        try:
            return bool(self._admin.get("/v1/status")["stage"] == "running")
        except NotRunning:
            return False


@contextmanager
def running(
    folder: Path, declared: str, module: str = SERVICE, more: Mapping[str, str] | None = None
) -> Iterator[Project]:
    """The project of a service in `hello.py`, and of `more` modules, ready when the block
    begins."""
    folder.mkdir()
    (folder / "seawall.toml").write_text(declared)
    for name, text in {"hello": module, **(more or {})}.items():
        (folder / f"{name}.py").write_text(text)
    with (folder / "up.out").open("wb") as out:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "seawall.cli", "up"],
            cwd=folder,
            stdout=out,
            stderr=out,
            env={**os.environ, "SEAWALL_PROFILE": ""},
        )
    project = Project(folder, supervisor.pid)
    try:
        deadline = time.monotonic() + STARTED_WITHIN
        while not project.running():
            if supervisor.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"not ready:\n{(folder / 'up.out').read_text()[-2000:]}")
            time.sleep(0.05)
        yield project
    finally:
        supervisor.send_signal(signal.SIGTERM)
        try:
            supervisor.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            supervisor.kill()  # what it started ends by itself
            supervisor.wait()
