import threading
from collections.abc import Iterable
from pathlib import Path

from seawall.clock import SYSTEM
from seawall.runtime.logs import Line, LogStore, read_logs
from tests.support.waiting import eventually_sync


def _all(instance: str) -> bool:
    return True


def test_lines_are_stored_and_read_in_order_of_time(tmp_path: Path) -> None:
    store = LogStore(tmp_path, SYSTEM)
    store.add(Line(3.0, "a-1", "third"))
    store.add(Line(1.0, "b-1", "first"))
    store.add(Line(2.0, "b-1", "sécond, with spaces"))
    store.close()
    texts = [line.text for line in read_logs(tmp_path, _all, 10)]
    assert texts == ["first", "sécond, with spaces", "third"]
    assert [line.text for line in read_logs(tmp_path, _all, 1)] == ["third"]
    assert [line.at for line in read_logs(tmp_path, lambda name: name == "a-1", 9)] == [3.0]
    assert read_logs(tmp_path, _all, 0) == []


def test_a_log_has_two_files_at_most(tmp_path: Path) -> None:
    store = LogStore(tmp_path, SYSTEM, rotate_at=2000)
    for number in range(300):
        store.add(Line(float(number), "a-1", f"line {number}"))
        eventually_sync(store._waiting.empty)
    store.close()
    assert {path.name for path in tmp_path.iterdir()} == {"a-1.log", "a-1.log.1"}
    assert all(path.stat().st_size < 4000 for path in tmp_path.iterdir())
    assert read_logs(tmp_path, _all, 5)[-1].text == "line 299"
    assert len(read_logs(tmp_path, _all, 60)) == 60  # reaches into the older file


def test_a_flood_is_cut_and_said(tmp_path: Path) -> None:
    shown: list[str] = []
    held = SlowScreen(shown)
    store = LogStore(tmp_path, SYSTEM, held, most_waiting=10)
    store.add(Line(0.0, "a-1", "held"))
    eventually_sync(lambda: held.entered)
    for number in range(100):
        store.add(Line(1.0, "a-1", str(number)))
    held.release()
    eventually_sync(store._waiting.empty)
    store.add(Line(2.0, "a-1", "after"))
    store.close()
    assert shown[-2:] == ["... 90 lines dropped: they came faster than they were stored", "after"]


class SlowScreen:
    """A terminal that was stopped with Ctrl-S."""

    def __init__(self, shown: list[str]) -> None:
        self.shown = shown
        self.entered = False
        self._go = threading.Event()

    def release(self) -> None:
        self._go.set()

    def __call__(self, lines: Iterable[Line]) -> None:
        self.entered = True
        assert self._go.wait(5)
        self.shown += [line.text for line in lines]


def test_a_full_disk_is_told_and_lines_are_still_shown(tmp_path: Path) -> None:
    (tmp_path / "a-1.log").symlink_to("/dev/full")
    shown: list[str] = []
    store = LogStore(tmp_path, SYSTEM, lambda lines: shown.extend(line.text for line in lines))
    store.add(Line(1.0, "a-1", "lost on disk"))
    eventually_sync(lambda: store.trouble != "")
    assert "No space left" in store.trouble
    assert shown == ["lost on disk"]
    store.close()


async def test_followers_hear_what_they_asked_for(tmp_path: Path) -> None:
    store = LogStore(tmp_path, SYSTEM)
    async with store.following({"a-1"}) as some, store.following(()) as everything:
        store.sink("a-1")("one")
        store.sink("b-1")("two")
        assert (await some.get()).text == "one"
        assert some.empty()
        assert [(await everything.get()).text, (await everything.get()).text] == ["one", "two"]
        for number in range(2000):  # a follower that does not read costs no memory
            store.sink("a-1")(str(number))
        assert some.qsize() == 1000
    assert not store._followers
    store._waiting.put(None)
