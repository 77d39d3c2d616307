"""Python services forked from a warm parent, behind a real gateway."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from seawall.clock import SYSTEM
from seawall.registry.connect import open_registry
from seawall.registry.watcher import Watcher
from seawall.runtime.layout import Layout
from tests.integration.runtime.conftest import Project, can_connect, gone
from tests.support.waiting import eventually, eventually_sync

SERVICE = """
import os, random, sys, threading
from seawall import Service

service = Service("hello", version="1.2.0")
imported_by = os.getpid()

@service.get("/who")
async def who() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "imported_by": imported_by,
        "chance": random.random(),
        "imports": sorted(set(sys.modules) - imported),
        "database": os.environ["SEAWALL_DATABASE__URL"],
        "instance": os.environ["SEAWALL_INSTANCE_ID"],
    }

imported = set(sys.modules)
"""

DECLARED = """
[services.hello]
module = "hello:service"
replicas = 2
drain = 1.0
"""

ROUTE = """
[[gateway.routes]]
path = "/"
service = "hello"
"""


def _who(project: Project, name: str = "hello") -> dict[str, object]:
    return dict(json.loads(project.run("call", name, "/who").stdout))


def test_replicas_share_an_import_and_nothing_else(project: Project) -> None:
    project.write("hello.py", SERVICE)
    project.declare(DECLARED, registry="")
    project.up()
    one, two = _who(project, "hello-1"), _who(project, "hello-2")
    assert one["imported_by"] == two["imported_by"]
    assert one["pid"] != two["pid"] != one["imported_by"]
    assert one["chance"] != two["chance"]
    assert one["instance"] == "hello-1"
    assert one["imports"] == []  # each would cost every replica, every time
    assert one["database"] == f"sqlite+aiosqlite:///{project.folder}/.seawall/data/hello.db"
    # The registry knows it once they have said so.
    for name in ("hello-1", "hello-2"):
        eventually_sync(lambda name=name: project.instances()[name]["version"] == "1.2.0")


def test_a_restart_runs_the_code_as_it_is_now(project: Project) -> None:
    project.write("hello.py", SERVICE)
    project.declare(DECLARED)
    project.up()
    project.write("hello.py", SERVICE.replace('"pid": os', '"new": True, "pid": os'))

    os.kill(project.instances()["hello-1"]["pid"], signal.SIGKILL)
    eventually_sync(lambda: project.instances()["hello-1"]["restarts"] == 1)
    eventually_sync(lambda: project.ready("hello-1"))
    assert "new" not in _who(project, "hello-1")  # as its sibling, since nobody asked for more

    assert project.run("restart", "hello").returncode == 0
    assert _who(project, "hello-1")["new"] is True
    assert _who(project, "hello-2")["new"] is True


def test_a_module_that_starts_a_thread_is_not_forked(project: Project) -> None:
    thread = "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    project.write("hello.py", SERVICE + thread)
    project.declare(DECLARED)
    project.up()
    assert "importing hello started a thread" in project.said()
    one, two = _who(project, "hello-1"), _who(project, "hello-2")
    assert one["imported_by"] == one["pid"] != two["pid"]


def test_a_module_with_a_mistake_is_told_and_tried_again(project: Project) -> None:
    project.write("hello.py", "import no_such_module\n")
    project.declare(DECLARED)
    project.up(ready=False)
    eventually_sync(lambda: project.instances().get("hello-1", {}).get("restarts", 0) >= 1, 15)
    why = "No module named 'no_such_module'"
    eventually_sync(lambda: why in "".join(project.instances()["hello-1"]["last_words"][-1:]))

    project.write("hello.py", SERVICE)
    eventually_sync(lambda: project.ready("hello-1", "hello-2"), within=15)


def _is_standby(process: psutil.Process) -> bool:
    try:
        return process.name() == "hello-standby"
    except psutil.NoSuchProcess:  # it ended meanwhile
        return False


def test_a_standby_is_the_next_replica_with_the_code_as_it_is(project: Project) -> None:
    project.write("hello.py", SERVICE)
    project.declare(DECLARED.replace("replicas = 2", "replicas = 1\nstandbys = 1"))
    project.up()

    def waiting() -> int | None:
        """The process that waits, once there is one."""
        if project.status()["services"][0]["standbys"] != 1:
            return None
        return next((each.pid for each in project.processes() if _is_standby(each)), None)

    eventually_sync(lambda: waiting() is not None, within=15)
    first = waiting()
    assert project.run("scale", "hello=2").returncode == 0
    eventually_sync(lambda: project.ready("hello-1", "hello-2"))
    told = _who(project, "hello-2")
    assert (told["pid"], told["instance"]) == (first, "hello-2")
    eventually_sync(lambda: "hello-2" in project.run("logs", "hello-2", "--json").stdout)

    eventually_sync(lambda: waiting() not in (None, first), within=15)
    second = waiting()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    eventually_sync(lambda: project.instances()["hello-2"]["restarts"] == 1)
    eventually_sync(lambda: project.ready("hello-2"), within=15)
    assert project.instances()["hello-2"]["pid"] == second

    eventually_sync(lambda: waiting() not in (None, second), within=15)
    project.write("hello.py", SERVICE.replace('"pid": os', '"new": True, "pid": os'))
    assert project.run("restart", "hello").returncode == 0
    assert _who(project, "hello-1")["new"] is True
    eventually_sync(lambda: waiting() is not None, within=15)
    assert project.run("scale", "hello=3").returncode == 0
    eventually_sync(lambda: project.ready("hello-3"))
    assert _who(project, "hello-3")["new"] is True

    everybody = project.processes()
    project.stop()
    eventually_sync(lambda: gone(everybody))


def test_a_loop_that_does_not_turn_is_replaced(project: Project) -> None:
    project.write("hello.py", SERVICE)
    probe = "[services.hello.probes.liveness]\nperiod = 0.2\ntimeout = 0.5\nfailure_threshold = 2\n"
    project.declare(DECLARED + probe)
    project.up()
    hung = project.instances()["hello-1"]

    os.kill(hung["pid"], signal.SIGSTOP)

    eventually_sync(lambda: project.instances()["hello-1"]["restarts"] == 1, within=15)
    eventually_sync(lambda: project.ready("hello-1", "hello-2"), within=15)
    assert "does not live: /livez did not answer" in project.instances()["hello-1"]["last_exit"]


def test_a_dead_replica_leaves_the_registry_at_once(project: Project) -> None:
    project.write("hello.py", SERVICE)
    project.declare(DECLARED, registry="")
    project.up()
    url = f"unix://{project.folder}/.seawall/run/valkey.sock?db=0"
    seconds = asyncio.run(_seen_dead(url, project.instances()["hello-1"]["pid"]))
    assert seconds < 5.0  # some 10 ms on an idle machine; a lease lasts 10 s


async def _seen_dead(url: str, pid: int) -> float:
    """Kill a replica of `hello`; how long a caller takes to hear of it."""
    registry = open_registry(url)
    async with Watcher(registry) as watcher:
        await eventually(lambda: len(watcher.view.instances) == 2)
        before = {instance.incarnation for instance in watcher.view.instances}
        os.kill(pid, signal.SIGKILL)
        began = SYSTEM.now()
        await eventually(lambda: not before <= {i.incarnation for i in watcher.view.instances})
        seconds = SYSTEM.now() - began
        await eventually(lambda: len(watcher.resolve("hello")) == 2)
    await registry.aclose()
    return seconds


def test_gateways_share_a_port_and_one_may_die(project: Project) -> None:
    project.write("hello.py", SERVICE)
    project.declare(DECLARED + ROUTE, gateways=2, registry="")
    project.up()
    rows = project.instances()
    assert rows["gateway-1"]["address"] == rows["gateway-2"]["address"]
    called = project.run("call", "gateway", "/who")
    assert called.returncode == 0, called.stderr
    for name in ("gateway-1", "gateway-2"):
        assert _is_ready(Layout(project.folder).gateway_socket(name))

    os.kill(rows["gateway-1"]["pid"], signal.SIGKILL)
    for _ in range(10):
        assert project.run("call", "gateway", "/who").returncode == 0
    eventually_sync(lambda: project.instances()["gateway-1"]["restarts"] == 1)
    eventually_sync(lambda: project.ready("gateway-1", "gateway-2"))
    assert _is_ready(Layout(project.folder).gateway_socket("gateway-1"))


def _is_ready(admin: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5.0)
        connection.connect(str(admin))
        connection.sendall(b"GET /readyz HTTP/1.1\r\nhost: gateway\r\n\r\n")
        return connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_kill_9_of_the_supervisor_leaves_no_forked_process(project: Project) -> None:
    project.write("hello.py", SERVICE)
    project.declare(DECLARED, gateways=1, registry="")
    project.up()
    processes = project.processes()
    assert len(processes) >= 6  # supervisor, two parents, Valkey, gateway, two replicas
    address = project.instances()["hello-1"]["address"]
    project.supervisor.kill()
    project.supervisor.wait()
    assert can_connect(address)  # for a while another supervisor may come
    eventually_sync(lambda: gone(processes), within=15)
    assert list((project.folder / ".seawall/run").glob("parent-*")) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_forked_processes_stop_with_the_supervisor(
    project: Project, number: signal.Signals
) -> None:
    project.write("hello.py", SERVICE)
    project.declare(DECLARED, gateways=1, registry="")
    project.up()
    processes = project.processes()
    project.supervisor.send_signal(number)
    project.supervisor.wait(30)
    assert gone(processes)
    assert not psutil.pid_exists(project.supervisor.pid)
