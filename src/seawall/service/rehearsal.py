"""A start and a request that nobody asked for, so that the first ones are not the first.

What a process does for the first time takes it several times as long as later: each page that it
shares with its parent is copied when it is touched, and what is made when it is needed is not
there. Whoever waits to be told which replica to be has the time to do it before. What is served
is an application of ours, alone and in memory: the service's own code is for its replicas to run.
"""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from seawall.concurrency.tasks import running
from seawall.errors import Misconfigured
from seawall.messaging.connect import open_transport
from seawall.service.serve import server_of
from seawall.service.service import Service
from seawall.service.settings import Settings
from seawall.telemetry.logs import JsonFormatter, Resource
from seawall.topology import Address

# It takes a fiftieth of that; a process that waits longer is missing where it is needed.
_WITHIN = 1.0  # seconds

_NAME = "rehearsal"

_QUESTION = b"GET / HTTP/1.1\r\nhost: rehearsal\r\nconnection: close\r\n\r\n"

_LOGGERS = ("seawall", "uvicorn.error")


async def rehearse(host: str = "127.0.0.1") -> None:
    """Serve one request to ourselves, on any port of `host`. Nothing is said of it, and nothing
    left; where it is not possible the first request is the first."""
    with _unsaid(), suppress(OSError, TimeoutError):
        async with asyncio.timeout(_WITHIN):
            await _served(_application(), host)
    record = logging.makeLogRecord({"msg": "%s is ready", "args": (_NAME,)})
    JsonFormatter(Resource(_NAME, "0.0.0", _NAME)).format(record)
    with suppress(Misconfigured):  # which the start says
        open_transport(Settings.from_environment().messages_url)  # it connects to nobody yet


def _application() -> Service:
    alone = f"memory://{_NAME}"
    settings = Settings(registry_url=alone, messages_url=alone, instance_id=_NAME, drain=0.0)
    service = Service(_NAME, settings=settings, telemetry={"tracing": False})
    service.knows_address = True

    @service.get("/")
    async def nothing() -> str:
        return ""

    return service


async def _served(service: Service, host: str) -> None:
    with socket.create_server((host, 0)) as listener:
        listener.setblocking(False)
        server = server_of(service)
        async with running(server.serve(sockets=[listener])) as serving:
            where = listener.getsockname()
            await _asked(where)
            await service.listening(Address(*where))
            server.leave(0.0, linger=0.0)
            await serving


async def _asked(where: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as asking:
        asking.setblocking(False)
        await loop.sock_connect(asking, where)
        await loop.sock_sendall(asking, _QUESTION)
        while await loop.sock_recv(asking, 65536):
            pass


@contextmanager
def _unsaid() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
