"""Asks the admin API of a running project."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from seawall.cli.failure import FAILED, UNREACHABLE, USAGE, Failure
from seawall.runtime.layout import Layout

Query = Sequence[tuple[str, str]]


class NotRunning(Failure):
    def __init__(self, layout: Layout) -> None:
        super().__init__(
            f"{layout.root.name} is not running",
            why=f"nothing answers at {layout.admin_socket}",
            fix="seawall up, or name the project: --project PATH",
            status=UNREACHABLE,
            code="NotRunning",
        )


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Admin:
    """The admin API of the project at `layout`. Raises `NotRunning`, or `Failure` with what the
    other side said."""

    def __init__(self, layout: Layout, timeout: float | None = 10.0) -> None:
        self._layout = layout
        self._timeout = timeout

    def get(self, path: str, query: Query = ()) -> dict[str, Any]:
        with self._asked("GET", path, query) as answer:
            return dict(json.loads(answer.read()))

    def post(self, path: str, values: Mapping[str, Any]) -> dict[str, Any]:
        with self._asked("POST", path, (), values) as answer:
            return dict(json.loads(answer.read()))

    def stream(self, path: str, query: Query = ()) -> Iterator[dict[str, Any]]:
        """Answers one by one, until the other side ends."""
        with self._asked("GET", path, query) as answer:
            while line := _next_line(answer):
                yield json.loads(line)

    def work(self, path: str, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """How far something is that was asked for, until it is done."""
        with self._asked("POST", path, (), values) as answer:
            while line := _next_line(answer):
                yield json.loads(line)

    @contextmanager
    def _asked(
        self, method: str, path: str, query: Query, values: Mapping[str, Any] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _Connection(str(self._layout.admin_socket), self._timeout)
        try:
            target = f"{path}?{urlencode(query)}" if query else path
            body = None if values is None else json.dumps(values)
            answer = self._answer(connection, method, target, body)
            if answer.status >= 400:
                raise _failure(answer.status, json.loads(answer.read()))
            yield answer
        finally:
            connection.close()

    def _answer(
        self, connection: _Connection, method: str, target: str, body: str | None
    ) -> http.client.HTTPResponse:
        try:
            connection.request(method, target, body)
            return connection.getresponse()
        except TimeoutError:
            raise Failure("the supervisor does not answer", status=UNREACHABLE) from None
        except (OSError, http.client.HTTPException):
            raise NotRunning(self._layout) from None


def _next_line(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.readline()
    except (OSError, http.client.HTTPException):
        return b""  # it stopped


def _failure(status: int, said: Mapping[str, Any]) -> Failure:
    wrong_words = status in (400, 404)
    return Failure(
        said.get("message", "it failed"),
        fix=said.get("fix"),
        status=USAGE if wrong_words else FAILED,
        code=said.get("code", "Failure"),
    )
