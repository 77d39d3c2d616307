"""The unit of `seawall deploy systemd` under a real systemd: one server of docs/growing.md."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.architecture.test_docs import BLOCKS
from tests.containers.compose import SERVERS
from tests.support.containers import Engine
from tests.support.waiting import eventually_sync

HOME = "/srv/visits"

Shell = Callable[[str], str]


@pytest.fixture
def server(podman: Engine, project: Path, tmp_path: Path) -> Iterator[Shell]:
    """A shell on a server that has just been started, with the page's project on it."""
    for block in BLOCKS:
        _, named, name = block.info.partition("file=")
        if block.file == "docs/growing.md" and named:
            (tmp_path / name).write_text(block.text)
    file = ("--file", f"{SERVERS}/machine.Dockerfile")
    podman.run("build", "--quiet", *file, "--tag", "machine", str(project))
    podman.run(
        "run", "--detach", "--systemd=always", "--tmpfs", "/run", "--name", "server", "machine"
    )
    podman.run("cp", f"{tmp_path}/.", f"server:{HOME}")

    def shell(script: str) -> str:
        return podman.run("exec", "--workdir", HOME, "server", "sh", "-euc", script)

    try:
        yield shell
    finally:
        podman.remove_all()


def test_a_unit_keeps_the_project_running(server: Shell) -> None:
    eventually_sync(lambda: "running" in server("systemctl is-system-running || :"), within=20.0)
    server("useradd --system visits && chown -R visits: .")
    server("seawall deploy systemd --out unit && cp unit/visits.service /etc/systemd/system/")
    server("systemctl daemon-reload && systemctl enable --now visits")

    def answers() -> bool:
        return server("seawall call gateway GET /visits 2>/dev/null || :").startswith("[")

    def serving() -> set[tuple[str, int]]:
        rows = json.loads(server("seawall ps --json"))["instances"]
        return {(row["instance"], row["pid"]) for row in rows}

    eventually_sync(answers, within=20.0)
    assert server("seawall call gateway POST /visits").strip() == "1"
    before = serving()
    server("kill -9 $(systemctl show --property MainPID --value visits)")
    restarts = "systemctl show --property NRestarts --value visits"
    eventually_sync(lambda: server(restarts).strip() == "1" and answers(), within=40.0)
    assert serving() == before  # the next supervisor has taken them over
    assert server("seawall call gateway GET /visits").strip() == "[1]"
    variable = "SEAWALL_SERVICES__VISITS__DATABASE=sqlite+aiosqlite:///other.db"
    server(f"umask 77; echo {variable} > /etc/visits.env; systemctl restart visits")
    eventually_sync(answers, within=40.0)
    assert server("seawall call gateway GET /visits").strip() == "[]"  # another database
    server("systemctl stop visits")
    result = server("systemctl show --property Result --property ActiveState visits")
    assert sorted(result.split()) == ["ActiveState=inactive", "Result=success"]
