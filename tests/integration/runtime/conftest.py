"""Projects of a few small services, run by `seawall up` as a user would."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from seawall.cli.admin import Admin, NotRunning
from seawall.runtime.layout import Layout
from tests.support.waiting import eventually_sync

SEAWALL = [sys.executable, "-m", "seawall.cli"]

# A service in any language: answers on $PORT, tells its environment, and obeys /die and SIGTERM.
SERVER = """
import json, os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/env":
            body = json.dumps(dict(os.environ)).encode()
        else:
            body = self.path.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

def stop(*_):
    print("asked to stop")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
HTTPServer.allow_reuse_address = True
server = HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler)
print("listening", os.environ["SEAWALL_INSTANCE_ID"])
server.serve_forever()
"""


class Project:
    """A project in a folder of its own, and the supervisor that runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "up.out"
        self._supervisor: subprocess.Popen[bytes] | None = None
        (folder / "server.py").write_text(SERVER)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def declare(self, text: str, *, gateways: int = 0, registry: str = "memory://test") -> None:
        """Write seawall.toml; without a Valkey unless `registry` is empty."""
        head = f"[gateway]\nport = 0\nreplicas = {gateways}\n"
        if registry:
            head += f'[registry]\nurl = "{registry}"\n[messages]\nurl = "{registry}"\n'
        self.write("seawall.toml", head + text)

    def service(self, name: str, *, replicas: int = 1, more: str = "") -> str:
        """A service made of the small server above."""
        command = json.dumps([sys.executable, "server.py"])
        return (
            f'[services.{name}]\ncommand = {command}\nhealth = "/ready"\n'
            f"replicas = {replicas}\ndrain = 1.0\n{more}\n"
        )

    def up(self, *arguments: str, ready: bool = True) -> subprocess.Popen[bytes]:
        with self.output.open("wb") as out:
            self._supervisor = subprocess.Popen(
                [*SEAWALL, "up", *arguments], cwd=self.folder, stdout=out, stderr=out
            )
        if ready:
            try:
                eventually_sync(lambda: self.status().get("stage") == "running", within=20)
            except TimeoutError:
                pytest.fail(f"not ready:\n{self.said()}")
        return self._supervisor

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        assert self._supervisor is not None
        return self._supervisor

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SEAWALL, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def status(self) -> dict[str, Any]:
        """What `seawall ps --json` prints; nothing if no supervisor answers."""
        try:
            return Admin(Layout(self.folder)).get("/v1/ps")
        except NotRunning:
            return {}

    def instances(self) -> dict[str, dict[str, Any]]:
        return {row["instance"]: row for row in self.status().get("instances", [])}

    def ready(self, *names: str) -> bool:
        rows = self.instances()
        return all(name in rows and rows[name]["state"] == "ready" for name in names)

    def processes(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        top = psutil.Process(self.supervisor.pid)
        return [top, *top.children(recursive=True)]

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def stop(self) -> None:
        """End what still runs, also where a test failed."""
        if self._supervisor is None:
            return
        if self._supervisor.poll() is None:
            below = self.processes()
            self._supervisor.send_signal(signal.SIGTERM)
            try:
                self._supervisor.wait(45)
            except subprocess.TimeoutExpired:
                for process in below:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                self._supervisor.wait(5)


def gone(processes: list[psutil.Process]) -> bool:
    """Whether none of them lives; a zombie that its new parent has not buried is dead."""
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            continue
    return True


def can_connect(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    os.environ.pop("SEAWALL_PROFILE", None)
    made = Project(tmp_path)
    yield made
    made.stop()
