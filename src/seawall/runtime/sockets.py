"""Listening sockets that outlive the processes that answer on them.

The supervisor holds one for each place of a service, so that a restarted replica keeps its
address and a client that connects meanwhile waits instead of being refused.
"""

import errno
import random
import socket
from collections.abc import Collection
from dataclasses import dataclass

from seawall.errors import Misconfigured

# As many connections wait while a replica restarts; Linux cuts it to net.core.somaxconn.
_BACKLOG = 4096

# Where ports for foreign commands are taken from: below what Linux and macOS give to outgoing
# connections, which could take the port while the command restarts.
_COMMAND_PORTS = range(20000, 30000)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens on a port; nothing is known of processes of other users."""

    pid: int | None = None
    command: str = ""

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command})" if self.pid else "a process we may not see"


class PortTaken(Misconfigured):
    """Another process listens there."""

    def __init__(self, host: str, port: int, holder: Holder) -> None:
        stop = f", or stop it: kill {holder.pid}" if holder.pid else ""
        super().__init__(
            f"port {port} is already used by {holder}",
            fix=f"use another port (0 takes any free one){stop}",
        )
        self.host = host
        self.port = port
        self.holder = holder


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises `PortTaken` or `Misconfigured`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as exc:
        listener.close()
        if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
            raise PortTaken(host, port, holder_of(port)) from exc
        raise Misconfigured(f"cannot listen on {host}:{port}: {exc}") from exc
    listener.setblocking(False)
    return listener


def port_for_command(host: str, wanted: int, taken: Collection[int], rng: random.Random) -> int:
    """A port that a command will bind by itself: `wanted`, or any free one if that is 0.

    Raises `PortTaken` if `wanted` is in use.
    """
    if wanted:
        listen(host, wanted).close()
        return wanted
    for port in rng.sample(_COMMAND_PORTS, len(_COMMAND_PORTS)):
        if port not in taken:
            try:
                listen(host, port).close()
            except PortTaken:
                continue
            return port
    raise Misconfigured("no free port between 20000 and 30000", fix="stop what listens there")


def holder_of(port: int) -> Holder:
    """Who listens on `port`, as far as we may know."""
    import psutil  # only needed to explain a failure

    try:
        for connection in psutil.net_connections("tcp"):
            here = connection.laddr
            if connection.status == psutil.CONN_LISTEN and here and here.port == port:
                if connection.pid is None:
                    return Holder()
                command = psutil.Process(connection.pid).cmdline()
                return Holder(connection.pid, " ".join(command)[:80])
    except psutil.Error:
        return Holder()
    return Holder()
