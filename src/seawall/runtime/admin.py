"""The admin API: HTTP on a Unix socket that only its owner may open.

Answers are JSON; a stream is one JSON object a line, until the caller hangs up. Whatever the
command line or a dashboard can do goes through here.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h11

from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured, NotSent, Refused, SeawallError
from seawall.runtime.fleets import UnknownName

# Most requests are a few words. A dead letter that was edited comes with its body, of 8 MB at
# most, as text of four thirds of that.
_MAX_BODY = 12 * 1024 * 1024  # bytes

_CHUNK = 64 * 1024  # bytes of one read


@dataclass(frozen=True, slots=True)
class Question:
    """A request, taken apart."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    body: Mapping[str, Any]

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]


Answer = Mapping[str, Any] | AsyncIterator[Mapping[str, Any]]
Answerer = Callable[[Question], Awaitable[Answer]]

_STATUS: Mapping[type[SeawallError], int] = {
    UnknownName: 404,
    Misconfigured: 400,
    Refused: 409,
    NotSent: 503,
}


@asynccontextmanager
async def admin_server(
    socket: Path, routes: Mapping[tuple[str, str], Answerer]
) -> AsyncIterator[None]:
    """Answer at `socket` for as long as the block runs; one request a connection."""
    async with Tasks() as tasks:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.start(_converse(reader, writer, routes), name="admin request")

        server = await asyncio.start_unix_server(accept, str(socket))
        try:
            yield
        finally:
            server.close()


async def _converse(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    routes: Mapping[tuple[str, str], Answerer],
) -> None:
    try:
        # Whoever hangs up has its answer, or does not want it any more.
        with contextlib.suppress(ConnectionError, h11.RemoteProtocolError):
            protocol = h11.Connection(h11.SERVER)
            question = await _read(protocol, reader)
            if question is not None:
                status, answer = await _answer(question, routes)
                await _write(protocol, reader, writer, status, answer)
    finally:
        writer.close()


async def _read(protocol: h11.Connection, reader: asyncio.StreamReader) -> Question | None:
    method, target, body = "", "", bytearray()
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Request):
            method, target = event.method.decode(), event.target.decode()
            # h11 takes only digits here.
            if int(dict(event.headers).get(b"content-length", b"0")) > _MAX_BODY:
                return None
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _MAX_BODY:
                return None
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return None
    url = urlsplit(target)
    try:
        values = json.loads(body or b"{}")
    except ValueError:
        values = None
    if not isinstance(values, dict):
        values = {}
    return Question(method, url.path, parse_qs(url.query), values)


async def _answer(
    question: Question, routes: Mapping[tuple[str, str], Answerer]
) -> tuple[int, Answer]:
    answerer = routes.get((question.method, question.path))
    if answerer is None:
        what = f"{question.method} {question.path}"
        return 404, problem("UnknownPath", f"the admin API has no {what}")
    try:
        return 200, await answerer(question)
    except SeawallError as exc:
        status = next((code for kind, code in _STATUS.items() if isinstance(exc, kind)), 500)
        fix = exc.fix if isinstance(exc, Misconfigured) else None
        reason = exc.reason if isinstance(exc, Misconfigured) else str(exc)
        return status, problem(type(exc).__name__, reason, fix)


def problem(code: str, message: str, fix: str | None = None) -> Mapping[str, Any]:
    return {"schema": "seawall.error/1", "code": code, "message": message, "fix": fix}


async def _write(
    protocol: h11.Connection,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    status: int,
    answer: Answer,
) -> None:
    streams = isinstance(answer, AsyncIterator)
    kind = b"application/jsonl" if streams else b"application/json"
    head = h11.Response(
        status_code=status, headers=[(b"content-type", kind), (b"connection", b"close")]
    )
    writer.write(protocol.send(head) or b"")
    if isinstance(answer, AsyncIterator):
        await _stream(protocol, reader, writer, answer)
    else:
        writer.write(protocol.send(h11.Data(data=_line(answer))) or b"")
    writer.write(protocol.send(h11.EndOfMessage()) or b"")
    await writer.drain()


async def _stream(
    protocol: h11.Connection,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: AsyncIterator[Mapping[str, Any]],
) -> None:
    """Send what comes; a caller that hung up is noticed at once, not at the next line."""

    async def send() -> None:
        async for item in answer:
            writer.write(protocol.send(h11.Data(data=_line(item))) or b"")
            await writer.drain()

    async with Tasks() as tasks:
        sending, leaving = tasks.start(send()), tasks.start(reader.read(1))
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)


def _line(item: Mapping[str, Any]) -> bytes:
    return json.dumps(item, separators=(",", ":")).encode() + b"\n"
