"""`seawall gateway reload` with real processes: all gateways end on one revision, or stay."""

import http.client
import json
import os
import signal
import threading
from typing import Any

from tests.integration.runtime.conftest import Project
from tests.support.waiting import eventually_sync

ROUTES = '[[gateway.routes]]\npath = "/"\nservice = "web"\n'
MORE = '[[gateway.routes]]\npath = "/new"\nservice = "web"\n'


def started(project: Project, more: str = "") -> int:
    """A project with two gateways; the port on which both accept."""
    declare(project, more)
    project.up()
    return int(project.status()["url"].rpartition(":")[2])


def declare(project: Project, more: str = "") -> None:
    project.declare(project.service("web", replicas=2) + ROUTES + more, gateways=2, registry="")


def fetched(port: int, path: str = "/") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def revisions(project: Project) -> list[str]:
    return list(project.json("gateway", "diff")["revisions"])


class Load:
    """Clients that ask on kept connections without a pause, each in a thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self.answers: list[int] = []
        self.lost: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not self._stop.is_set():
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                answer.read()
                self.answers.append(answer.status)
            except (OSError, http.client.HTTPException) as exc:
                self.lost.append(repr(exc))
        connection.close()

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)


def test_a_reload_under_load_loses_nothing_and_reaches_every_gateway(project: Project) -> None:
    port = started(project)
    (first,) = revisions(project)
    with Load(port) as load:
        eventually_sync(lambda: len(load.answers) > 50)
        for turn in range(4):
            declare(project, MORE if turn % 2 == 0 else "")
            answer = project.json("gateway", "reload")
            assert len(answer["revisions"]) == 1
            assert [row["ok"] for row in answer["gateways"]] == [True, True]
            seen = len(load.answers)
            eventually_sync(lambda seen=seen: len(load.answers) > seen + 20)  # type: ignore[misc]
    assert load.lost == []
    assert set(load.answers) == {200}
    assert revisions(project) == [first]


def test_what_would_change_is_told_before_it_does(project: Project) -> None:
    port = started(project)
    declare(project, MORE + "timeout = 3\n[gateway.upstreams.web]\nattempts = 2\n")
    for words in (["diff"], ["reload", "--dry-run"]):
        said = project.run("gateway", *words)
        assert said.returncode == 0, said.stderr
        assert "+ route /new" in said.stdout
        assert "services.web" in said.stdout
    assert fetched(port, "/new") == 200  # by the old route
    rows: list[dict[str, Any]] = project.json("gateway", "diff")["gateways"]
    assert all(row["revision"] == row["changes"]["revision"]["before"] for row in rows)


def test_a_mistake_leaves_all_gateways_as_they_are(project: Project) -> None:
    port = started(project)
    before = revisions(project)
    project.write("seawall.toml", (project.folder / "seawall.toml").read_text() + "[gatway]\n")
    said = project.run("gateway", "reload")
    assert said.returncode == 1
    assert "stays at revision" in said.stdout
    assert "gatway" in said.stdout
    checked = project.run("gateway", "check")
    assert checked.returncode == 1
    assert "gatway" in checked.stderr
    assert fetched(port) == 200
    declare(project)
    assert revisions(project) == before


def test_sighup_is_a_reload_of_one_gateway(project: Project) -> None:
    started(project)
    declare(project, MORE)
    os.kill(project.instances()["gateway-1"]["pid"], signal.SIGHUP)
    eventually_sync(lambda: len(revisions(project)) == 2)
    assert project.run("gateway", "reload").returncode == 0
    assert len(revisions(project)) == 1
    said = project.run("logs", "gateway-1").stdout
    assert "1 routes added" in said


def test_check_tells_a_revision(project: Project) -> None:
    declare(project)
    told = json.loads(project.run("gateway", "check", "--json").stdout)
    assert (told["ok"], told["routes"]) == (True, 1)
    declare(project, MORE + 'auth = "nobody"\n')
    refused = project.run("gateway", "check")
    assert refused.returncode == 1
    assert "nobody" in refused.stderr
