"""A crowd of clients that are connected and keep quiet."""

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

# Beside those of the crowd: clients and instances of the load, logs, and what a program has open.
OTHER_FILES = 1_000


@contextmanager
def keeping_quiet(port: int, count: int) -> Iterator[None]:
    """Each got one answer, and is connected while the block is open."""
    clients: list[socket.socket] = []
    try:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port))
            clients.append(client)
            client.sendall(b"GET / HTTP/1.1\r\nhost: example\r\n\r\n")
            if not client.recv(65536).startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"client {len(clients)} of {count} was refused")
        yield
    finally:
        for client in clients:
            client.close()


def allow(count: int) -> None:
    """Let this process, and those that it starts, hold a crowd of `count`."""
    wanted = count + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SystemExit(
            f"error: {wanted:,} open files are needed, and {hard:,} allowed\n"
            "  fix: raise the hard limit (ulimit -Hn), or --only the parts without idle"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
