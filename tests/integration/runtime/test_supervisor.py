"""`seawall up` with real processes: what dies is replaced, and nothing is ever left behind."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.integration.runtime.conftest import SEAWALL, Project, can_connect, gone
from tests.support.servers import missing
from tests.support.waiting import eventually_sync


def test_a_killed_replica_is_replaced_at_its_address(project: Project) -> None:
    project.declare(project.service("web", replicas=2))
    project.up()
    before = project.instances()["web-1"]

    os.kill(before["pid"], signal.SIGKILL)

    eventually_sync(lambda: project.instances()["web-1"]["restarts"] == 1)
    eventually_sync(lambda: project.ready("web-1", "web-2"))
    after = project.instances()["web-1"]
    assert after["pid"] != before["pid"]
    assert after["address"] == before["address"]
    assert after["last_exit"] == "killed by SIGKILL"
    assert "web-1 killed by SIGKILL" in project.said()
    assert project.instances()["web-2"]["restarts"] == 0


def test_a_service_that_cannot_start_is_tried_again_and_disturbs_nobody(project: Project) -> None:
    broken = '[services.broken]\ncommand = ["sh", "-c", "echo no such table >&2; exit 3"]\n'
    project.declare(project.service("web") + broken)
    project.up(ready=False)

    eventually_sync(lambda: project.ready("web-1"))
    eventually_sync(lambda: project.instances()["broken-1"]["restarts"] >= 3)
    assert project.instances()["broken-1"]["last_exit"].startswith("exited with status 3")
    # What it said comes by a pipe, and may come after its status.
    eventually_sync(lambda: project.instances()["broken-1"]["last_words"] == ["no such table"])
    assert project.status()["stage"] == "starting"
    assert project.status()["unready"][0]["service"] == "broken"
    shown = project.run("ps").stdout
    assert "no such table" in shown
    assert project.instances()["web-1"]["restarts"] == 0


def test_what_is_given_up_may_end_the_project(project: Project) -> None:
    rule = '[services.broken.restart]\nintensity = 2\nthen = "stop"\n'
    broken = f'[services.broken]\ncommand = ["sh", "-c", "exit 3"]\n{rule}'
    project.declare(project.service("web") + broken)
    project.up(ready=False)
    assert project.supervisor.wait(20) == 1
    assert "broken-1 was given up after 2 deaths within 60 s" in project.said()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_everything(project: Project, number: signal.Signals, status: int) -> None:
    project.declare(project.service("web", replicas=2), registry="")
    project.up()
    processes = project.processes()
    assert len(processes) >= 5  # supervisor, parent, Valkey, two replicas

    project.supervisor.send_signal(number)

    assert project.supervisor.wait(30) == status
    assert gone(processes)
    assert project.run("logs", "web-1").stdout.count("asked to stop") == 1
    assert project.run("ps").returncode == 3


def test_the_death_of_the_parent_is_survived(project: Project) -> None:
    project.declare(project.service("web"))
    project.up()
    parent = psutil.Process(project.supervisor.pid).children()[0]
    replica = project.instances()["web-1"]["pid"]

    parent.kill()

    eventually_sync(lambda: project.ready("web-1") and not psutil.pid_exists(replica), within=10)
    assert project.instances()["web-1"]["last_exit"] == "ended with its parent"


def test_what_ignores_sigterm_is_killed_with_what_it_started(project: Project) -> None:
    script = "trap '' TERM; sleep 1000 & while :; do sleep 1; done"
    stubborn = f'[services.stubborn]\ncommand = ["sh", "-c", "{script}"]\ndrain = 0\n'
    project.declare(stubborn)
    project.up(ready=False)
    eventually_sync(lambda: project.instances().get("stubborn-1", {}).get("pid") is not None)
    eventually_sync(lambda: len(project.processes()) >= 5)
    processes = project.processes()

    project.supervisor.send_signal(signal.SIGTERM)

    assert project.supervisor.wait(30) == 143
    assert gone(processes)


def test_a_second_signal_stops_at_once(project: Project) -> None:
    script = "trap '' TERM; while :; do sleep 0.1; done"
    project.declare(f'[services.slow]\ncommand = ["sh", "-c", "{script}"]\ndrain = 60\n')
    project.up(ready=False)
    eventually_sync(lambda: project.instances().get("slow-1", {}).get("pid") is not None)
    project.supervisor.send_signal(signal.SIGINT)
    eventually_sync(lambda: "once more" in project.said())
    eventually_sync(lambda: project.instances()["slow-1"]["state"] == "stopping")

    project.supervisor.send_signal(signal.SIGINT)

    assert project.supervisor.wait(30) == 130


def test_a_port_in_use_is_told_with_who_uses_it(project: Project) -> None:
    project.declare(project.service("web"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = project.run("up", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port} is already used by pid {os.getpid()}" in done.stderr
    assert "fix:" in done.stderr
    assert not done.stdout


def test_a_second_up_says_what_runs(project: Project) -> None:
    project.declare(project.service("web"))
    project.up()
    done = project.run("up")
    assert done.returncode == 1
    assert f"already running (pid {project.supervisor.pid})" in done.stderr
    assert project.ready("web-1")


def test_scale_up_and_down(project: Project) -> None:
    project.declare(project.service("web"))
    project.up()

    assert project.run("scale", "web=3").stdout == "web: 1 -> 3\n"
    eventually_sync(lambda: project.ready("web-1", "web-2", "web-3"))
    addresses = {row["address"] for row in project.instances().values()}
    assert len(addresses) == 3
    assert project.run("scale", "web=-2").returncode == 0
    assert list(project.instances()) == ["web-1"]
    assert sum(can_connect(address) for address in addresses) == 1
    assert project.run("scale", "web=0").returncode == 0
    assert project.instances() == {}
    unknown = project.run("scale", "wbe=1")
    assert (unknown.returncode, "did you mean 'web'" in unknown.stderr) == (2, True)
    assert project.run("scale", "web=many").returncode == 2


def test_restart_replaces_one_after_another(project: Project) -> None:
    project.declare(project.service("web", replicas=2))
    project.up()
    before = project.instances()

    assert project.run("restart", "web").returncode == 0
    after = project.instances()
    assert project.ready("web-1", "web-2")
    assert {row["pid"] for row in after.values()}.isdisjoint(r["pid"] for r in before.values())
    assert [row["restarts"] for row in after.values()] == [0, 0]

    assert project.run("restart", "web-2").returncode == 0
    last = project.instances()
    assert last["web-1"]["pid"] == after["web-1"]["pid"]
    assert last["web-2"]["pid"] != after["web-2"]["pid"]


def test_a_restart_that_does_not_come_back_is_told(project: Project) -> None:
    project.declare(project.service("web"))
    project.up()
    project.write("server.py", "raise SystemExit('the new code is broken')")
    done = project.run("restart", "web")
    assert done.returncode == 1
    assert "web-1 did not become ready again" in done.stderr


def test_logs_are_stored_and_followed(project: Project) -> None:
    project.declare(project.service("web", replicas=2))
    project.up()
    stored = project.run("logs", "web-1")
    assert stored.stdout == "web-1 | listening web-1\n"
    rows = [json.loads(line) for line in project.run("logs", "web", "--json").stdout.splitlines()]
    assert {row["instance"] for row in rows} == {"web-1", "web-2"}
    assert all(row["schema"] == "seawall.log/1" for row in rows)
    assert "web-1 ready" in project.run("logs", "seawall").stdout
    assert project.run("logs", "wbe").returncode == 2

    with subprocess.Popen(
        [*SEAWALL, "logs", "web-2", "-f", "-n", "0"], cwd=project.folder, stdout=subprocess.PIPE
    ) as follower:
        assert follower.stdout is not None
        project.run("restart", "web-2")
        assert follower.stdout.readline() == b"web-2 | asked to stop\n"
        follower.kill()

    project.stop()
    assert "listening web-1" in project.run("logs", "web").stdout
    assert project.run("logs", "-f").returncode == 3


def test_a_nodejs_command_is_a_service(project: Project) -> None:
    if subprocess.run(["which", "node"], stdout=subprocess.DEVNULL, check=False).returncode:
        missing("node")
    project.write(
        "web.js",
        "require('http').createServer((q, r) => r.end('node ' + q.url))"
        ".listen(+process.env.PORT, process.env.HOST);"
        "process.on('SIGTERM', () => process.exit(0));",
    )
    project.declare('[services.web]\ncommand = ["node", "web.js"]\nreplicas = 2\n')
    project.up()
    called = project.run("call", "web", "/hello")
    assert (called.returncode, called.stdout) == (0, "node /hello\n")
    posted = project.json("call", "web-2", "POST", "/x", '{"a": 1}')
    assert (posted["instance"], posted["status"]) == ("web-2", 200)


def test_an_optional_command_that_is_not_here_is_left_out(project: Project) -> None:
    nowhere = '[services.far]\ncommand = ["no-such-program"]\n'
    project.declare(project.service("web") + nowhere)
    refused = project.run("up")
    assert refused.returncode == 2
    assert "no-such-program is not installed" in refused.stderr

    project.declare(project.service("web") + nowhere + "optional = true\n")
    project.up()
    assert "far is left out" in project.said()
    assert list(project.instances()) == ["web-1"]


def test_the_embedded_valkey_keeps_what_it_was_told(project: Project) -> None:
    project.declare(project.service("web"), registry="")
    project.up()
    path = str(project.folder / ".seawall/run/valkey.sock")
    assert _ask(path, "SET greeting hello") == "+OK"

    os.kill(project.instances()["valkey"]["pid"], signal.SIGKILL)

    eventually_sync(lambda: project.instances()["valkey"]["restarts"] == 1)
    eventually_sync(lambda: project.ready("valkey"))
    assert _ask(path, "GET greeting") == "$5"
    assert _ask(path, "CONFIG GET appendfsync").startswith("*2")
    project.supervisor.send_signal(signal.SIGTERM)
    project.supervisor.wait(30)
    project.up()
    assert _ask(path, "GET greeting") == "$5"


def test_commands_get_an_environment(project: Project) -> None:
    project.declare(project.service("web", more='env = { GREETING = "hello" }'), registry="")
    project.up()
    seen = json.loads(project.run("call", "web", "/env").stdout)
    row = project.instances()["web-1"]
    assert seen["GREETING"] == "hello"
    assert seen["SEAWALL_INSTANCE_ID"] == "web-1"
    assert f"{seen['HOST']}:{seen['PORT']}" == row["address"]
    assert seen["SEAWALL_REGISTRY__URL"].startswith("unix://")
    assert seen["SEAWALL_DATABASE__URL"].endswith(".seawall/data/web.db")
    assert "SEAWALL_LISTEN_FD" not in seen
    # Nothing that its siblings must not have: only its own standard streams and sockets.
    files = {file.path for file in psutil.Process(row["pid"]).open_files()}
    assert not [path for path in files if ".seawall" in path]


def test_a_command_is_registered_while_it_answers(project: Project) -> None:
    project.declare(project.service("web", more='version = "2.1.0"'), registry="")
    project.up()
    eventually_sync(lambda: project.instances()["web-1"]["registered"] == "ready")
    assert project.instances()["web-1"]["version"] == "2.1.0"
    pid = project.instances()["web-1"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    eventually_sync(lambda: project.instances()["web-1"]["state"] == "unready", within=15)
    # The registry is told after the state has changed.
    eventually_sync(lambda: project.instances()["web-1"]["registered"] is None, within=15)
    os.kill(pid, signal.SIGCONT)
    eventually_sync(lambda: project.instances()["web-1"]["registered"] == "ready", within=10)


def test_detached_with_wait_and_down(project: Project) -> None:
    project.declare(project.service("web"))
    started = project.json("up", "--wait")
    try:
        assert started["stage"] == "running"
        assert project.ready("web-1")
        top = psutil.Process(started["pid"])
        processes = [top, *top.children(recursive=True)]
    finally:
        assert project.run("down").returncode == 0
    eventually_sync(lambda: gone(processes))
    assert project.run("down").returncode == 0
    assert project.run("scale", "web=1").returncode == 3


def test_detached_tells_why_it_did_not_start(project: Project) -> None:
    project.declare('[services.web]\ncomand = ["x"]\n')
    wrong = project.run("up", "--detach")
    assert wrong.returncode == 2
    assert "did you mean 'command'" in wrong.stderr

    project.declare('[services.web]\ncommand = ["sh", "-c", "sleep 1000"]\n')
    late = project.run("up", "--wait", "--timeout", "5")
    assert late.returncode == 4
    assert "web-1" in late.stderr
    assert project.run("down").returncode == 0


def test_a_folder_that_cannot_be_written_is_told(project: Project) -> None:
    project.declare(project.service("web"))
    project.write(".seawall", "a file where a folder should be")
    done = project.run("up")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_a_long_path_still_has_sockets(project: Project, tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    far = Project(deep)
    far.declare(far.service("web"), registry="")
    try:
        far.up()
        assert far.ready("valkey", "web-1")
        socket_path = Path((deep / ".seawall/run/admin.path").read_text().strip())
        assert socket_path.is_socket()
    finally:
        far.stop()
    assert not socket_path.parent.exists()


def _ask(path: str, command: str) -> str:
    """The first line of what a Valkey answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(command.encode() + b"\r\n")
        return connection.makefile("rb").readline().decode().strip()
