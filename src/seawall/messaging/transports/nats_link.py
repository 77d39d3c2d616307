"""The connection to NATS, shared by all who call; made when it is needed, and again after a loss.

Nothing is tried twice here. Requests of one call travel together and their answers come to one
inbox, so a batch costs one round trip.

    not connected, refused                        Unavailable    nothing happened
    lost or silent after the request was written  OutcomeUnknown
    wrong password, no JetStream                  Misconfigured
"""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from seawall.errors import Full, Misconfigured, OutcomeUnknown, Refused, SeawallError, Unavailable
from seawall.messaging.transports.nats_protocol import Msg, Server
from seawall.messaging.transports.nats_wire import Post, Wire

CONNECT_TIMEOUT = 2.0  # seconds

NO_RESPONDERS = "503"  # nobody listens there: no such stream or consumer


class Gone(Unavailable):
    """The stream or consumer does not exist (any more): make it, and ask again."""


class NatsLink:
    """The connection of one transport."""

    def __init__(
        self,
        servers: Sequence[str],
        name: str,
        *,
        timeout: float,
        domain: str = "",
        credentials: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._servers = servers
        self._name = name
        self._timeout = timeout
        self._credentials = credentials
        self._tls = tls
        self._api = f"$JS.{domain}.API" if domain else "$JS.API"
        self._wire: Wire | None = None
        self._connecting = asyncio.Lock()
        self._closed = False
        self.max_payload = 0  # bytes, as the server last told
        self.connects = 0

    async def ready(self) -> Wire:
        """The open connection. Raises `Unavailable` if there is none to be had."""
        wire = self._wire
        if wire is not None and wire.usable:
            return wire
        async with self._connecting:
            if self._closed:
                raise Unavailable("closed")
            if self._wire is None or not self._wire.usable:
                self._wire = await self._connect()
            return self._wire

    async def _connect(self) -> Wire:
        reasons = []
        for server in self._servers:
            try:
                return await self._connect_to(server)
            except Unavailable as error:
                reasons.append(str(error))
        raise Unavailable("; ".join(reasons))

    async def _connect_to(self, address: str) -> Wire:
        server = Server.parse(address)
        wire = Wire(self._timeout)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: wire, server.host, server.port)
                await wire.greet(
                    server, self._name, tls=self._tls, credentials=await self._secret()
                )
        except (OSError, TimeoutError, OutcomeUnknown) as error:
            wire.lose("could not connect")
            reason = str(error) or f"no answer within {CONNECT_TIMEOUT} s"
            raise Unavailable(f"NATS: {reason}") from error
        except BaseException:
            wire.lose("could not connect")
            raise
        self.max_payload = wire.info.max_payload
        self.connects += 1
        return wire

    async def _secret(self) -> str:
        """The text of the credentials file, read anew for each connection: it may be renewed."""
        if not self._credentials:
            return ""
        try:
            return await asyncio.to_thread(Path(self._credentials).read_text)
        except (OSError, UnicodeError) as error:
            raise Misconfigured(
                f"NATS credentials: {error}", fix="the path in `credentials`"
            ) from error

    async def ask(self, posts: Sequence[Post]) -> list[Msg]:
        wire = await self.ready()
        return await wire.ask(posts)

    def api_subject(self, subject: str) -> str:
        return f"{self._api}.{subject}"

    async def api(self, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """Call JetStream; an answer may be an error: see `checked`."""
        posts = [
            Post(self.api_subject(subject), msgspec.json.encode(body)) for subject, body in calls
        ]
        replies = await self.ask(posts)
        if any(reply.status == NO_RESPONDERS for reply in replies):
            raise Misconfigured(
                "this NATS server has no JetStream", fix="start it with -js, or name the `domain`"
            )
        return [msgspec.json.decode(reply.data) for reply in replies]

    async def aclose(self) -> None:
        self._closed = True
        if self._wire is not None:
            self._wire.close()
            self._wire = None


# Codes of JetStream's errors: what they mean to a caller.
_NOT_THERE = {10059, 10014, 10037, 10043}  # no stream, no consumer, no message (two kinds)
_FULL = {10077, 10109, 10122, 10023, 10028, 10047}  # messages, a subject's, bytes, resources
_TOO_LARGE = {10054, 10111}
EXISTS = {10058, 10013, 10148}  # a stream or consumer that was configured differently


def error_of(answer: dict[str, Any]) -> SeawallError | None:
    """The error that a JetStream answer is, or None."""
    error = answer.get("error")
    if error is None:
        return None
    code, text = error.get("err_code", 0), f"NATS: {error.get('description', error)}"
    if code in _NOT_THERE:
        return Gone(text)
    if code in _FULL:
        return Full(text)
    if code in _TOO_LARGE:
        return Refused(text)
    return Unavailable(text) if error.get("code", 0) >= 500 else Refused(text)


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer; raises if it is an error."""
    error = error_of(answer)
    if error is not None:
        raise error
    return answer


def stored(reply: Msg) -> SeawallError | None:
    """What became of a published message: None if it is stored."""
    if reply.status == NO_RESPONDERS:
        return Gone("no such stream")
    return error_of(msgspec.json.decode(reply.data))
