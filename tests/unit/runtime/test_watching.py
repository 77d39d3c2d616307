"""Whose files changed."""

import os
from pathlib import Path

import pytest

from seawall.runtime.narration import tell
from seawall.runtime.watching import FilesChanged, changed, look, owners
from seawall.spec.project import ServiceSpec

ROOT = Path("/project")

SERVICES = {
    name: ServiceSpec.model_validate(spec)
    for name, spec in {
        "orders": {"module": "shop.orders.app:service"},
        "stock": {"module": "shop.stock.app:service"},
        "hello": {"module": "hello:service"},
        "users": {"module": "users.app:service"},
        "live": {"command": ["node", "live/server.js"]},
        "edge": {"command": ["./run"], "cwd": "edge"},
    }.items()
}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("hello.py", ["hello"]),
        ("users/store.py", ["users"]),
        ("shop/orders/app.py", ["orders"]),
        ("shop/contracts.py", ["orders", "stock"]),
        ("live/server.js", ["live"]),
        ("live/lib/feed.js", ["live"]),
        ("edge/run.go", ["edge"]),
        ("notes.py", []),
    ],
)
def test_whose_a_file_is(path: str, names: list[str]) -> None:
    assert owners(ROOT / path, SERVICES, ROOT) == names


def test_what_is_new_gone_or_written_has_changed(tmp_path: Path) -> None:
    for name in ("kept.py", "gone.py", "written.py", "node_modules/x.js", ".venv/y.py", "a.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    before = look(tmp_path)
    assert {path.name for path in before} == {"kept.py", "gone.py", "written.py"}
    (tmp_path / "gone.py").unlink()
    (tmp_path / "new.py").write_text("1")
    os.utime(tmp_path / "written.py", ns=(1, 1))
    found = changed(before, look(tmp_path))
    assert [path.name for path in found] == ["gone.py", "new.py", "written.py"]
    assert changed(before, before) == []


def test_it_is_told_in_a_line() -> None:
    fact = FilesChanged("orders", (Path("/p/app.py"), Path("/p/b.py")))
    assert tell(fact) == ["orders: app.py and 1 more changed; reloading"]
