"""How others read HTTP/1: h11 and llhttp (httptools), as functions from bytes to messages."""

from dataclasses import dataclass, field
from typing import Any

import h11
import httptools


@dataclass
class Reading:
    """Messages of one direction: what their first line says, and their body, if it came whole."""

    messages: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    refused: bool = False  # they read no further
    rest: bool = False  # they wait for more of a message that has begun, or some is left over


class _Llhttp:
    def __init__(self) -> None:
        self.reading = Reading()
        self.url, self.body = b"", b""
        self.parser: Any = None

    def on_message_begin(self) -> None:
        self.url, self.body, self.reading.rest = b"", b"", True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if isinstance(self.parser, httptools.HttpRequestParser):
            first, second = self.parser.get_method(), self.url
        else:
            first, second = b"%d" % self.parser.get_status_code(), b""
        self.reading.messages.append((first, second, self.body))
        self.reading.rest = False


def _by_llhttp(kind: Any, data: bytes) -> Reading:
    seen = _Llhttp()
    seen.parser = kind(seen)
    try:
        seen.parser.feed_data(data)
    except httptools.HttpParserUpgrade as upgrade:
        seen.reading.rest = upgrade.args[0] != len(data)
    except httptools.HttpParserError:
        seen.reading.refused = True
    return seen.reading


def requests_by_llhttp(data: bytes) -> Reading:
    return _by_llhttp(httptools.HttpRequestParser, data)


def answers_by_llhttp(data: bytes) -> Reading:
    return _by_llhttp(httptools.HttpResponseParser, data)


def requests_by_h11(data: bytes) -> Reading:
    reading = Reading()
    while data:
        before = len(reading.messages)
        data = _message(h11.Connection(h11.SERVER), data, reading)
        if len(reading.messages) == before or reading.refused:
            break
    reading.rest = bool(data) or reading.rest
    return reading


def answers_by_h11(data: bytes, method: bytes, *, ended: bool) -> Reading:
    """`ended`: the connection was closed behind `data` as it should be, not cut."""
    reading = Reading()
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    rest = _message(connection, data, reading, ended=ended)
    reading.rest = bool(rest) or reading.rest
    return reading


def _message(
    connection: h11.Connection, data: bytes, reading: Reading, *, ended: bool = False
) -> bytes:
    """Read one message into `reading`; what is behind it."""
    first, second, body = b"", b"", b""
    try:
        connection.receive_data(data)
        if ended:
            connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                first, second, reading.rest = event.method, event.target, True
            elif isinstance(event, h11.Response):
                first, reading.rest = b"%d" % event.status_code, True
            elif isinstance(event, h11.InformationalResponse):
                reading.messages.append((b"%d" % event.status_code, b"", b""))
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                reading.messages.append((first, second, body))
                reading.rest = False
                return bytes(connection.trailing_data[0])
            else:
                return b""
    except h11.RemoteProtocolError:
        reading.refused = True
        return b""
