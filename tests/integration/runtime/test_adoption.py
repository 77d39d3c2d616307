"""The supervisor is killed, and another takes over what it had started, under load."""

import asyncio
import os
import signal
from urllib.parse import urlsplit

import psutil

from seawall.load.probing import AtAddress, Probing, Verified
from seawall.topology import Address
from tests.integration.runtime.conftest import Project, gone
from tests.support.waiting import eventually_sync

HELLO = """
import os
from seawall import Service

service = Service("hello", version="1.2.0")

@service.get("/")
async def who() -> int:
    return os.getpid()
"""

DECLARED = """
[[gateway.routes]]
path = "/"
service = "hello"
[services.hello]
module = "hello:service"
replicas = 2
drain = 1.0
"""

RUNNING = ("valkey", "gateway-1", "hello-1", "hello-2", "web-1")


def pids(project: Project) -> dict[str, int]:
    return {name: row["pid"] for name, row in project.instances().items()}


async def asked_while(project: Project, url: str) -> Verified:
    """Requests through the gateway while the supervisor is killed and another one comes."""
    gateway = urlsplit(url)
    address = Address(gateway.hostname or "", gateway.port or 0)
    over = asyncio.Event()
    probing = Probing(AtAddress(address, "/", ()), 50.0)
    asking = asyncio.get_running_loop().create_task(probing.run(over.is_set))

    def again() -> None:
        project.supervisor.kill()
        project.supervisor.wait()
        project.up()

    await asyncio.to_thread(again)
    over.set()
    return await asking


def test_a_new_supervisor_takes_over_what_runs_and_no_request_is_lost(project: Project) -> None:
    project.write("hello.py", HELLO)
    project.declare(DECLARED + project.service("web"), gateways=1, registry="")
    project.up()
    before, address = pids(project), project.instances()["hello-1"]["address"]
    assert set(before) == set(RUNNING)

    verified = asyncio.run(asked_while(project, project.status()["url"]))

    assert verified.failures == ()
    assert verified.served > 20
    assert "5 processes of a supervisor that was killed go on" in project.said()
    assert pids(project) == before
    eventually_sync(lambda: project.instances()["hello-1"]["registered"] == "ready")

    # And they are its own from now on: what dies is replaced, what is reloaded gets the new code.
    os.kill(before["hello-1"], signal.SIGKILL)
    eventually_sync(lambda: project.ready("hello-1") and pids(project) != before, within=15)
    assert project.instances()["hello-1"]["address"] == address
    project.write("hello.py", HELLO.replace("1.2.0", "1.3.0"))
    assert project.run("reload", "hello").returncode == 0
    eventually_sync(lambda: project.instances()["hello-2"]["version"] == "1.3.0")
    assert project.run("scale", "hello=3").returncode == 0
    eventually_sync(lambda: project.ready("hello-3"))
    assert "listening" in project.run("logs", "web-1").stdout

    everybody = project.processes()
    below = [process for process in everybody if process.pid != project.supervisor.pid]
    assert project.run("down").returncode == 0
    project.supervisor.wait(20)
    eventually_sync(lambda: gone(below), within=15)


def test_one_that_was_a_standby_goes_on_as_what_it_became(project: Project) -> None:
    project.write("hello.py", HELLO)
    standbys = DECLARED.replace("replicas = 2", "replicas = 1\nstandbys = 1")
    project.declare(standbys.replace('[[gateway.routes]]\npath = "/"\nservice = "hello"', ""))
    project.up()
    eventually_sync(lambda: project.status()["services"][0]["standbys"] == 1, within=15)
    assert project.run("scale", "hello=2").returncode == 0
    eventually_sync(lambda: project.ready("hello-2"))
    before = pids(project)

    project.supervisor.kill()
    project.supervisor.wait()
    project.up()

    assert pids(project) == before
    eventually_sync(lambda: project.status()["services"][0]["standbys"] == 1, within=15)


def test_what_is_declared_otherwise_now_is_replaced_or_ended(project: Project) -> None:
    both = project.service("web", more='env = { COLOUR = "red" }') + project.service("old")
    project.declare(both + project.service("same"))
    project.up()
    before = project.instances()

    project.supervisor.kill()
    project.supervisor.wait()
    changed = project.service("web", more='env = { COLOUR = "blue" }')
    project.declare(changed + project.service("same"))
    project.up()

    after = project.instances()
    assert set(after) == {"web-1", "same-1"}
    assert after["same-1"]["pid"] == before["same-1"]["pid"]
    assert after["web-1"]["pid"] != before["web-1"]["pid"]
    assert project.json("call", "web-1", "/env")["body"]["COLOUR"] == "blue"
    eventually_sync(lambda: not psutil.pid_exists(before["old-1"]["pid"]), within=10)


def test_those_that_show_certificates_go_on_with_them(project: Project) -> None:
    project.write("hello.py", HELLO)
    mtls = "[identity]\nmtls = true\n"
    project.declare(mtls + DECLARED, gateways=1, registry="")
    project.up()
    before = pids(project)

    verified = asyncio.run(asked_while(project, project.status()["url"]))

    assert verified.failures == ()
    assert pids(project) == before
    assert project.json("call", "hello-1", "/")["body"] == before["hello-1"]
    # One that shows none is not what is wanted any more.
    project.supervisor.kill()
    project.supervisor.wait()
    project.declare(DECLARED, gateways=1, registry="")
    project.up()
    after = pids(project)
    assert not set(after.values()) & {before["hello-1"], before["hello-2"]}
    assert project.json("call", "hello-1", "/")["body"] == after["hello-1"]
