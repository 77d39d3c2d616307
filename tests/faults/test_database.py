"""A service's SQLite file is locked by somebody else, or gone."""

import sqlite3

from tests.faults.conftest import Notes, problem


def test_a_locked_file_is_503_and_heals(notes: Notes) -> None:
    path = notes.project.folder / ".seawall/data/notes.db"
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    try:
        refused = notes.add_row()
        said = problem(refused)
        assert (refused.status_code, said["service"]) == (503, "notes")
        assert "locked" in said["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        assert notes.done() == set()  # readers do not wait for writers
        assert notes.post().status_code == 202  # done when it can be
        assert notes.project.ready("notes-1", "notes-2")
    finally:
        other.close()

    assert notes.add_row().status_code == 201
    assert notes.lost() == set()
