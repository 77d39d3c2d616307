"""The disk under `.seawall/` is full: said, nothing lost, and over when there is room."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from tests.faults.conftest import Notes, problem
from tests.integration.runtime.conftest import Project
from tests.support.waiting import eventually_sync


def _fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as out:
        for size in (65536, 4096, 1):
            try:
                while out.write(bytes(size)):
                    pass
            except OSError:
                continue
    return filler


def _refused(ask: Callable[[], httpx2.Response]) -> dict[str, Any]:
    """What the first refusal says: a few bytes find room where something else has just left it."""
    answers: list[httpx2.Response] = []

    def refused() -> bool:
        answers.append(ask())
        return answers[-1].status_code == 503

    eventually_sync(refused)
    return problem(answers[-1])


def test_a_full_disk_refuses_what_it_cannot_keep(small_disk: Path, notes: Notes) -> None:
    assert notes.post().status_code == 202

    filler = _fill(small_disk)
    assert _refused(notes.post)["service"] == "notes"
    refused = _refused(notes.add_row)
    assert "disk is full" in refused["detail"]
    assert notes.http.get("/hello").status_code == 200
    eventually_sync(lambda: "its disk is full" in notes.project.said())
    assert notes.project.ready("notes-1", "notes-2", "gateway-1")

    filler.unlink()
    eventually_sync(lambda: notes.post().status_code == 202, within=15)
    eventually_sync(lambda: notes.add_row().status_code == 201)
    assert notes.lost() == set()


def test_a_start_on_a_full_disk_says_so_and_waits_for_room(
    small_disk: Path, project: Project
) -> None:
    filler = _fill(small_disk)
    project.declare(project.service("web"), registry="")
    project.up(ready=False)
    eventually_sync(lambda: "its disk is full" in project.said())
    assert "valkey" in project.run("ps").stdout

    filler.unlink()
    eventually_sync(lambda: project.status()["stage"] == "running", within=15)
