"""The metrics adapter as a process: real HTTP, a real queue, a real service with metrics."""

import asyncio
import http.client
import json
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from seawall.messaging.base import Message, Subscription
from seawall.messaging.connect import open_transport
from tests.support.process import ServiceProcess
from tests.support.servers import RespServer, free_port, valkey
from tests.support.waiting import eventually_sync

PROJECT = """
[project]
name = "shop"
[messages]
url = "{server}"
[registry]
url = "{server}"
[services.mails]
module = "mails:service"
replicas = {{ min = 0, max = 5 }}
[[services.mails.scale]]
metric = "queue"
target = 10
[[gateway.routes]]
path = "/"
service = "web"
[services.web]
module = "web:service"
replicas = {{ min = 1, max = 5 }}
[[services.web.scale]]
metric = "process_resident_memory_bytes"
target = 1e8
[[services.web.scale]]
metric = "requests"
target = 10
"""

# Nothing of it runs: its code says what it consumes.
MAILS = """
from seawall import Service
service = Service("mails", version="1.0.0")

@service.worker("letters")
async def letter(job: dict[str, int]) -> None: ...
"""

WEB = """
from seawall import Service
service = Service("web", version="1.0.0")

@service.get("/")
async def hello() -> str:
    return "hello"
"""

EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def server(stack: ExitStack) -> RespServer:
    started = valkey()
    stack.callback(started.stop)
    return started


def get(url: str) -> tuple[int, Any]:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=5, context=trusting) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)
    except (OSError, http.client.HTTPException):
        return 0, None


def adapter(folder: Path, server: str, stack: ExitStack, *words: str) -> str:
    """Starts it; where it answers."""
    (folder / "seawall.toml").write_text(PROJECT.format(server=server))
    (folder / "web.py").write_text(WEB)
    command = [sys.executable, "-m", "seawall.cli", "metrics-adapter", "--every", "0.2"]
    process = ServiceProcess(
        folder, MAILS, command=[*command, "--port", "{port}", *words], name="mails"
    )
    stack.callback(process.kill)
    process.start(until="figures of 2 services at")
    return process.url


async def send(server: str, number: int) -> None:
    transport = open_transport(server)
    await transport.open()
    try:
        await transport.provision([Subscription("letters", "workers")])
        letters = [Message(id=f"m{n}", body=b"{}") for n in range(number)]
        await transport.publish("letters", letters)
    finally:
        await transport.aclose()


def test_a_queue_is_told_in_every_shape(
    tmp_path: Path, server: RespServer, stack: ExitStack
) -> None:
    asyncio.run(send(server.url, 12))
    url = adapter(tmp_path, server.url, stack)
    eventually_sync(lambda: get(f"{url}/keda/mails/queue") == (200, {"value": 12.0}), within=10)
    selected = "labelSelector=service%3Dmails"
    status, told = get(f"{url}{EXTERNAL}/queue?{selected}")
    assert (status, told["items"][0]["value"]) == (200, "12")
    status, told = get(f"{url}{CUSTOM}/services/mails/queue")
    assert (status, told["items"][0]["value"]) == (200, "12")

    server.kill()  # an old figure is not told for long, and no figure is none
    eventually_sync(lambda: get(f"{url}/keda/mails/queue")[0] == 503, within=10)
    assert get(f"{url}{EXTERNAL}/queue?{selected}")[1]["items"] == []
    server.start()
    eventually_sync(lambda: get(f"{url}/keda/mails/queue") == (200, {"value": 12.0}), within=10)


def test_replicas_are_asked_and_told_apart(
    tmp_path: Path, server: RespServer, stack: ExitStack
) -> None:
    surroundings = {"SEAWALL_REGISTRY__URL": server.url, "SEAWALL_MESSAGES__URL": server.url}
    for name in ("web-7f-a", "web-7f-b"):
        folder = tmp_path / name
        folder.mkdir()
        web = ServiceProcess(folder, WEB, {**surroundings, "SEAWALL_INSTANCE_ID": name})
        stack.callback(web.kill)
        web.start()
    url = adapter(tmp_path, server.url, stack)

    def pods() -> list[str]:
        _, told = get(f"{url}{CUSTOM}/pods/*/process_resident_memory_bytes")
        return [item["describedObject"]["name"] for item in told["items"]]

    eventually_sync(lambda: pods() == ["web-7f-a", "web-7f-b"], within=10)
    # Nothing is asked of them but their figures, which do not count.
    eventually_sync(lambda: get(f"{url}/keda/web/requests") == (200, {"value": 0.0}), within=10)


def test_what_gateways_were_offered_counts(
    tmp_path: Path, server: RespServer, stack: ExitStack
) -> None:
    """Nobody serves, so no replica knows of it."""
    url = adapter(tmp_path, server.url, stack, "--gateway", f"localhost:{(admin := free_port())}")
    gateway = ServiceProcess(
        tmp_path,
        "",
        {"SEAWALL_GATEWAY__PORT": str(port := free_port()), "SEAWALL_ADMIN": f"127.0.0.1:{admin}"},
        command=[sys.executable, "-m", "seawall.cli", "gateway", "run"],
        name="unused",
    )
    stack.callback(gateway.kill)
    gateway.spawn()

    def offered() -> float:
        get(f"http://127.0.0.1:{port}/")
        status, told = get(f"{url}/keda/web/requests")
        return float(told["value"]) if status == 200 else 0.0

    eventually_sync(lambda: offered() > 0, within=10)


def test_an_aggregated_api_is_asked_over_tls(
    tmp_path: Path, server: RespServer, stack: ExitStack
) -> None:
    url = adapter(tmp_path, server.url, stack, "--tls").replace("http:", "https:")
    status, told = get(f"{url}/apis/external.metrics.k8s.io/v1beta1")
    assert (status, told["kind"]) == (200, "APIResourceList")
    plain = get(url.replace("https:", "http:"))
    assert plain == (0, None)
