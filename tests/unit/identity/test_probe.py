"""The probe that shows a certificate, against a real listener that asks for one."""

import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from seawall.identity.authority import Authority
from seawall.identity.mutual import MutualTls
from seawall.identity.probe import ask
from seawall.identity.workload import WorkloadId


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    now = datetime.now(UTC)
    Authority.generate(now).issue(WorkloadId("shop", "orders"), now).write(tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    context = MutualTls(folder).server
    assert context.verify_mode is ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    serving.join()


def test_it_shows_its_certificate_and_tells_the_status(folder: Path, port: int) -> None:
    surroundings = {"SEAWALL_TLS": str(folder), "PORT": str(port)}
    assert ask("/readyz", surroundings) == 200
    assert ask("/livez", surroundings) == 503


def test_another_authoritys_certificate_asks_nothing(tmp_path: Path, port: int) -> None:
    now = datetime.now(UTC)
    Authority.generate(now).issue(WorkloadId("shop", "orders"), now).write(tmp_path / "other")
    assert ask("/readyz", {"SEAWALL_TLS": str(tmp_path / "other"), "PORT": str(port)}) == 0


def test_it_brings_little_along() -> None:
    program = "import sys, seawall.identity.probe; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"cryptography", "fastapi", "uvicorn", "pydantic"} & set(loaded)
