from pathlib import Path

from seawall.runtime.embedded import find_server, server_command
from seawall.runtime.layout import Layout


def test_a_server_is_found_and_really_is_one() -> None:
    assert Path(find_server()).is_file()


def test_it_listens_on_its_socket_only_and_writes_before_it_answers(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    words = server_command("valkey-server", layout)
    text = " ".join(words)
    assert "--port 0" in text
    assert f"--unixsocket {layout.valkey_socket} --unixsocketperm 700" in text
    assert "--appendonly yes --appendfsync always" in text
    assert "--maxmemory-policy noeviction" in text
    assert f"--dir {layout.valkey}" in text
