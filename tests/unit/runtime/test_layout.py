from pathlib import Path

import pytest

from seawall.errors import Misconfigured
from seawall.runtime.embedded import embedded_url
from seawall.runtime.layout import Layout


def test_everything_is_in_one_folder_for_its_owner_only(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.prepare()
    assert layout.folder.stat().st_mode & 0o077 == 0
    for folder in (layout.run, layout.logs, layout.data, layout.valkey):
        assert folder.parent == layout.folder
        assert folder.is_dir()
    assert (
        layout.database_url("orders") == f"sqlite+aiosqlite:///{tmp_path}/.seawall/data/orders.db"
    )


def test_sockets_of_a_long_path_are_elsewhere_and_noted(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 90)
    root.mkdir()
    layout = Layout(root)
    layout.prepare()
    assert len(str(layout.admin_socket)) <= 100
    assert layout.admin_socket.parent.stat().st_mode & 0o077 == 0
    assert (layout.run / "admin.path").read_text().strip() == str(layout.admin_socket)
    assert Layout(tmp_path / "y").admin_socket != layout.admin_socket

    waiting = layout.admin_socket.parent / "parent-9.sock"
    waiting.touch()
    layout.leave()
    assert waiting.exists()
    waiting.unlink()
    layout.leave()
    assert not waiting.parent.exists()


def test_a_folder_that_cannot_be_made_says_which(tmp_path: Path) -> None:
    (tmp_path / ".seawall").write_text("")
    with pytest.raises(Misconfigured, match=r"\.seawall.* cannot be written"):
        Layout(tmp_path).prepare()


def test_the_url_of_the_valkey_survives_odd_folders() -> None:
    url = embedded_url(Layout(Path("/tmp/my shop?#")))
    assert url == "unix:///tmp/my%20shop%3F%23/.seawall/run/valkey.sock?db=0"


@pytest.mark.parametrize("length", range(60, 110, 2))
def test_each_socket_has_a_folder_whatever_the_length_of_the_path(
    tmp_path: Path, length: int
) -> None:
    layout = Layout(tmp_path / ("x" * max(1, length - len(str(tmp_path)))))
    layout.prepare()
    for path in (layout.admin_socket, layout.gateway_socket("gateway-1"), Path(layout.parents)):
        assert path.parent.is_dir()
    layout.leave()
    assert Path(layout.parents).parent.exists() == (Path(layout.parents).parent == layout.run)
