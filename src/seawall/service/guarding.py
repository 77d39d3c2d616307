"""Who is let in, where callers show certificates: looked at once for each connection.

A caller that is known and may not call gets 403 and the reason, whatever it asks: an answer helps
it more than a connection that is closed. Who shows no certificate, or a wrong one, does not get
past the handshake.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seawall.errors import Refused
from seawall.identity.credentials import Credentials
from seawall.service.problem import MEDIA_TYPE, Problem
from seawall.service.records import OneRecord

# For a request that is to be refused; whoever sends none is not waited for.
_WITHIN = 5.0  # seconds


class Refusing(asyncio.Protocol):
    """Answers the first bytes that come with `answer`, and closes."""

    def __init__(self, transport: asyncio.Transport, answer: bytes) -> None:
        self._transport = transport
        self._answer = answer
        self._patience = asyncio.get_running_loop().call_later(_WITHIN, transport.abort)

    def data_received(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._answer)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()


def guarded(protocol: type[HttpToolsProtocol], credentials: Credentials) -> type[asyncio.Protocol]:
    """`protocol`, for those whom `credentials` admit."""
    return cast("type[asyncio.Protocol]", partial(_Guarded, protocol, credentials))


class _Guarded(asyncio.Protocol):
    """Makes place for the protocol itself, or for a refusal, once it is known who calls."""

    def __init__(
        self,
        protocol: Callable[..., asyncio.Protocol],
        credentials: Credentials,
        config: uvicorn.Config,
        **more: object,
    ) -> None:
        self._make = partial(protocol, config=config, **more)
        self._credentials = credentials

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connected = cast("asyncio.Transport", transport)  # uvloop's has no common base
        try:
            self._credentials.admit(transport.get_extra_info("peercert"))
        except Refused as refused:
            answer = _answer(str(refused), self._credentials.me.service)
            connected.set_protocol(Refusing(connected, answer))
            return
        protocol = self._make()
        connected.set_protocol(protocol)
        protocol.connection_made(OneRecord(connected))


def _answer(detail: str, service: str) -> bytes:
    problem = Problem(status=403, detail=detail)
    body = problem.body(service=service, path="", trace_id=None)
    head = (
        "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n"
        f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
