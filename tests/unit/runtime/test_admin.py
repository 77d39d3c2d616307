import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from seawall.errors import Misconfigured, Refused
from seawall.runtime.admin import Answer, Question, admin_server
from seawall.runtime.fleets import UnknownName
from tests.support.waiting import eventually


class Echo:
    """Answers that show what was asked."""

    def __init__(self) -> None:
        self.streaming = 0

    async def ask(self, question: Question) -> Answer:
        return {"name": question.one("name"), "query": question.query, "body": question.body}

    async def wrong(self, question: Question) -> Answer:
        raise Misconfigured("3x is no number", fix="3")

    async def unknown(self, question: Question) -> Answer:
        raise UnknownName("there is no 'x'")

    async def refused(self, question: Question) -> Answer:
        raise Refused("not now")

    async def stream(self, question: Question) -> Answer:
        return self._lines()

    async def _lines(self) -> AsyncIterator[Mapping[str, Any]]:
        self.streaming += 1
        try:
            yield {"n": 1}
            await asyncio.Event().wait()
        finally:
            self.streaming -= 1


@asynccontextmanager
async def serving(path: Path, echo: Echo) -> AsyncIterator[None]:
    routes = {
        ("GET", "/ask"): echo.ask,
        ("POST", "/ask"): echo.ask,
        ("GET", "/wrong"): echo.wrong,
        ("GET", "/unknown"): echo.unknown,
        ("GET", "/refused"): echo.refused,
        ("GET", "/stream"): echo.stream,
    }
    async with admin_server(path, routes):
        yield


async def _said(path: Path, request: bytes) -> tuple[int, Any]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        body = body.split(b"\r\n")[1]
    return (int(head.split()[1]) if head else 0), json.loads(body or b"null")


def _get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


async def test_questions_are_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with serving(path, Echo()):
        status, said = await _said(path, _get("/ask?name=a&name=b"))
        assert (status, said["name"], said["query"]) == (200, "a", {"name": ["a", "b"]})
        body = b'{"replicas": 3}'
        post = b"POST /ask HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        assert (await _said(path, post + body))[1]["body"] == {"replicas": 3}
        odd = b"POST /ask HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n[]"
        assert (await _said(path, odd))[1]["body"] == {}


async def test_errors_have_a_status_a_code_and_a_fix(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with serving(path, Echo()):
        status, said = await _said(path, _get("/wrong"))
        assert (status, said["code"], said["message"], said["fix"]) == (
            400,
            "Misconfigured",
            "3x is no number",
            "3",
        )
        assert (await _said(path, _get("/unknown")))[0] == 404
        assert (await _said(path, _get("/refused")))[0] == 409
        assert (await _said(path, _get("/nothing")))[0] == 404


async def test_nonsense_and_hang_ups_break_nothing(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    async with serving(path, Echo()):
        assert await _said(path, b"\x00\x01\r\n\r\n") == (0, None)
        huge = b"POST /ask HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 100_000
        assert await _said(path, huge) == (0, None)
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.close()
        assert (await _said(path, _get("/ask")))[0] == 200


async def test_a_stream_ends_when_its_reader_leaves(tmp_path: Path) -> None:
    path, echo = tmp_path / "admin.sock", Echo()
    async with serving(path, echo):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(_get("/stream"))
        assert b'{"n":1}' in await reader.readuntil(b'{"n":1}')
        assert echo.streaming == 1
        writer.close()
        await eventually(lambda: echo.streaming == 0)
