from pathlib import Path

import pytest

from seawall.runtime.embedded import find_server, read_line, server_command, why_it_died
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


@pytest.mark.parametrize(
    ("line", "said", "routine"),
    [
        ("7:M 21 Nov 2026 03:04:28.292 # Server initialized", "Server initialized", True),
        (
            "7:C 21 Nov 2026 03:04:28.286 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo",
            "oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo",
            True,
        ),
        (
            "7:signal-handler (1795230336) Received SIGTERM scheduling shutdown...",
            "Received SIGTERM scheduling shutdown...",
            True,
        ),
        (
            "30479:M 01 Nov 2026 03:04:28.292 # Bad file format reading the append only file",
            "Bad file format reading the append only file",
            False,
        ),
        ("Killed", "Killed", False),
    ],
)
def test_only_what_it_says_every_time_is_routine(line: str, said: str, routine: bool) -> None:
    assert read_line(line) == (said, routine)


def test_a_full_disk_is_named() -> None:
    assert "disk is full" in why_it_died(["Write error ...: No space left on device"])
    assert why_it_died(["Bad file format"]) == ""
