"""What an operator may ask a running service: `POST /-/NAME` with the operator's token.

For acts that no caller of the service may do, such as ending a saga by hand. They are answered
outside routes, limits and OpenAPI. The token is that of `SEAWALL_OPERATOR_TOKEN`; a supervisor
makes one for its services, and without any, every question is refused: the address alone proves
nothing, since a gateway may reach it too.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
from starlette.types import Receive, Scope, Send

from seawall.errors import Misconfigured, SeawallError
from seawall.service.edge import Probe
from seawall.service.life import Life
from seawall.service.problem import Problem, of_error

Operation = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]

PREFIX = "/-/"

# Questions are a few words; more is a mistake.
_MAX_QUESTION = 64 * 1024  # bytes


class Operated(Protocol):
    """Whose operations these are."""

    name: str
    life: Life | None


class Operations:
    """`by_path` are the ASGI applications that answer."""

    def __init__(self, service: Operated) -> None:
        self._service = service
        self._offered: dict[str, Operation] = {}
        self.by_path: dict[str, Probe] = {}

    def offer(self, name: str, operation: Operation) -> Operation:
        """Answer `POST /-/NAME` by `operation`, unless that name is taken; returns whoever
        answers it."""
        if name not in self._offered:
            self._offered[name] = operation
            self.by_path[PREFIX + name] = self._asked
        return self._offered[name]

    async def _asked(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        answer: Problem | Mapping[str, Any]
        try:
            forbidden = self._forbidden(scope)
            answer = forbidden or await self._answer(path, await _question(receive))
        except Misconfigured as wrong:
            answer = Problem(status=400, detail=str(wrong))
        except SeawallError as error:
            answer = of_error(error)
        if isinstance(answer, Problem):
            body = answer.body(service=self._service.name, path=path, trace_id=None)
            status, headers = answer.status, answer.raw_headers(len(body))
        else:
            body = msgspec.json.encode(answer)
            length = str(len(body)).encode()
            status = 200
            headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, path: str, question: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._offered[path.removeprefix(PREFIX)](question)

    def _forbidden(self, scope: Scope) -> Problem | None:
        life = self._service.life
        token = None if life is None else life.settings.operator_token
        if token is None:
            what = "no operator can ask this service: set SEAWALL_OPERATOR_TOKEN"
            return Problem(status=403, detail=what)
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if hmac.compare_digest(given, b"Bearer " + token.encode()):
            return None
        return Problem(
            status=401,
            detail="this is for an operator, by SEAWALL_OPERATOR_TOKEN",
            headers={"www-authenticate": "Bearer"},
        )


async def _question(receive: Receive) -> Mapping[str, Any]:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _MAX_QUESTION:
            raise Misconfigured(f"a question has at most {_MAX_QUESTION} bytes")
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Misconfigured(f"a question is a JSON object: {exc}") from None
    if not isinstance(said, dict):
        raise Misconfigured("a question is a JSON object")
    return said
