"""One question on a connection of its own, and how long it takes until somebody answers it."""

import socket
import time
from collections.abc import Callable

# A replica that has not answered by then never will.
ANSWERED_WITHIN = 30.0  # seconds

# A connection that was handed to a process which then died may never be answered.
_PATIENCE = 1.0  # seconds

_QUESTION = "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"

# Between two tries where the connection is refused: a twentieth of the shortest time we measure.
_AGAIN = 0.0002  # seconds


def asked(port: int, path: str = "/") -> str | None:
    """The body of a 200, without quotes; None for another answer, or none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as connection:
            connection.sendall(_QUESTION.format(path=path).encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
    except OSError:
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode().strip().strip('"') if head.startswith(b"HTTP/1.1 200") else None


def until_answered(port: int, began: float, good: Callable[[str], bool] = bool) -> float:
    """Seconds since `began` (of `time.perf_counter`) until an answer is `good`."""
    while time.perf_counter() - began < ANSWERED_WITHIN:
        body = asked(port)
        if body is not None and good(body):
            return time.perf_counter() - began
        time.sleep(_AGAIN)
    raise RuntimeError(f"nobody answered on port {port} within {ANSWERED_WITHIN:g} s")
