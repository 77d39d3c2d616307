"""What a pod is told is what the programs understand: its command and environment, as processes.

No kubelet runs here. Image, folder and ports are this machine's; everything else is the pod's.
"""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from seawall.deploy.declared import Declared
from seawall.deploy.workload import Workload, workloads
from tests.support.process import ServiceProcess
from tests.support.servers import RespServer, free_port
from tests.support.waiting import eventually_sync
from tests.unit.deploy.projects import project

HELLO = """
from seawall import Service
service = Service("hello", version="1.0.0")

@service.get("/hello")
async def hello() -> str:
    return "hello"
"""

PROJECT = """
[project]
name = "shop"
[[gateway.routes]]
path = "/hello"
service = "hello"
[services.hello]
module = "hello:service"
"""


def started(
    workload: Workload, folder: Path, secret: str, stack: ExitStack, **here: str
) -> ServiceProcess:
    """The workload as a process; its secrets are in files, as they are mounted."""
    environment = {**workload.environment, "SEAWALL_INSTANCE_ID": f"{workload.name}-6d4cf5-x7k2p"}
    for reference in workload.secrets:
        file = folder / reference.variable
        file.write_text(secret)
        environment[f"{reference.variable}_FILE"] = str(file)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = ServiceProcess(
        folder,
        HELLO,
        {**environment, **here, "PATH": path},
        command=list(workload.command),
        name="hello",
    )
    process.spawn()
    stack.callback(process.kill)
    return process


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code
    except OSError:
        return 0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.timeout(90)
def test_processes_understand_their_pods(
    tmp_path: Path, valkey: RespServer, stack: ExitStack
) -> None:
    spec = project(tmp_path, PROJECT)
    declared = {"hello": Declared(version="1.0.0")}
    hello, gateway = workloads(spec, declared)
    server = f"{valkey.url}?namespace=pods"
    service = started(hello, tmp_path, server, stack, PORT=str(free_port()))
    port, admin = free_port(), free_port()
    started(
        gateway,
        tmp_path,
        server,
        stack,
        PORT=str(port),
        SEAWALL_GATEWAY__PORT=str(port),
        SEAWALL_ADMIN=f"0.0.0.0:{admin}",
    )
    probed = [
        *(f"{service.url}{path}" for path in (hello.paths.started, hello.paths.ready)),
        f"{service.url}{hello.paths.live}",
        f"http://127.0.0.1:{admin}{gateway.paths.ready}",
        f"http://127.0.0.1:{admin}{gateway.paths.live}",
    ]
    eventually_sync(lambda: all(status(url) == 200 for url in probed), within=20.0)
    eventually_sync(lambda: status(f"http://127.0.0.1:{port}/hello") == 200, within=10.0)
