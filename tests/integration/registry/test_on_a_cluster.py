"""Processes whose registry is the cluster: a gateway, and a service that calls and consumes."""

import asyncio
import json
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("lightkube")

from tests.support.cluster import ApiServer, endpoint, slice_of
from tests.support.process import ServiceProcess
from tests.support.servers import RespServer, free_port
from tests.support.waiting import eventually_async

PROJECT = """
[project]
name = "shop"
[registry]
url = "kubernetes://"
[[gateway.routes]]
path = "/"
service = "live"
[services.live]
command = ["live"]
"""

# It knows nothing of Seawall.
LIVE = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "6")
        self.end_headers()
        self.wfile.write(b"\\"live\\"")
    def log_message(self, *args):
        pass

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

ORDERS = """
from seawall import Service

service = Service("orders", version="1.0.0")
live = service.client("live")

@service.get("/asked")
async def asked() -> str:
    return await live.get("/", returns=str)

@service.worker("letters")
async def letter(job: dict[str, int]) -> None: ...
"""


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    server = await ApiServer().start()
    context = {"cluster": "c", "user": "u", "namespace": server.namespace}
    config = {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "here", "context": context}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    yield server
    await server.stop()


@pytest.fixture
async def live(tmp_path: Path, api: ApiServer) -> AsyncIterator[ServiceProcess]:
    process = ServiceProcess(tmp_path, LIVE, command=[sys.executable, "live.py"], name="live")
    process.spawn()
    ports = [{"name": "http", "port": process.port, "protocol": "TCP"}]
    api.put(slice_of("live", endpoint("live-7f-a", "127.0.0.1"), ports=ports))
    yield process
    process.kill()


def got(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return f"{refusal.code} {refusal.read().decode()}"
    except OSError as exc:
        return str(exc)


async def answers(url: str, text: str) -> None:
    async def so() -> bool:
        return await asyncio.to_thread(got, url) == text

    await eventually_async(so, within=15)


async def test_a_gateway_finds_who_does_not_register(tmp_path: Path, live: ServiceProcess) -> None:
    (tmp_path / "seawall.toml").write_text(PROJECT)
    gateway = ServiceProcess(
        tmp_path,
        "",
        {
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "SEAWALL_GATEWAY__PORT": (port := str(free_port())),
        },
        command=[sys.executable, "-m", "seawall.cli", "gateway", "run"],
        name="unused",
    )
    gateway.spawn()
    try:
        await answers(f"http://127.0.0.1:{port}/", '"live"')
    finally:
        gateway.kill()


async def test_a_service_calls_and_consumes(
    tmp_path: Path, live: ServiceProcess, valkey: RespServer
) -> None:
    orders = ServiceProcess(
        tmp_path,
        ORDERS,
        {
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "SEAWALL_REGISTRY__URL": "kubernetes://",
            "SEAWALL_MESSAGES__URL": valkey.url,
        },
        name="orders",
    )
    orders.spawn()
    try:
        await answers(f"{orders.url}/readyz", "ok\n")
        await answers(f"{orders.url}/asked", '"live"')
    finally:
        orders.kill()
