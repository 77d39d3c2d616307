"""`seawall gateway run` by itself, as in a container."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("declared", "environment", "said"),
    [
        ("[gateway]\nport = {port}\n", {}, "port {port} is already used by"),
        ("[gateway]\nport = 0\n", {"SEAWALL_ADMIN": "127.0.0.1:{port}"}, "SEAWALL_ADMIN="),
    ],
)
def test_whose_port_is_taken_says_so(
    tmp_path: Path, declared: str, environment: dict[str, str], said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "seawall.toml").write_text(declared.format(port=port))
        told = {name: value.format(port=port) for name, value in environment.items()}
        ended = subprocess.run(
            [sys.executable, "-m", "seawall.cli", "gateway", "run"],
            cwd=tmp_path,
            env={**os.environ, **told},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode != 0
    assert said.format(port=port) in ended.stderr
    assert "Traceback" not in ended.stderr
