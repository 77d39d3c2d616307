"""A connection and, where it is wanted, TLS over it: each has a time of its own.

The kernel answers a connection at once, also for a process that is busy, or sleeps and is just
being woken; a handshake is the process's own work. Who allows it no more time than a connection
takes a busy process for one that is gone.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from seawall.errors import Refused
from seawall.topology import Address
from seawall.transport.tls import Secured

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Late(TimeoutError):
    """It took too long; the text says what."""


async def dial(
    make: Callable[[], P],
    address: Address,
    tls: Secured | None,
    *,
    connect_within: float | None,
    shake_within: float | None,
) -> tuple[asyncio.Transport, P]:
    """A connection to `address`, its protocol made by `make`; times in seconds, None for no bound.

    Raises `Late`, `OSError` (`ssl.SSLError` where the handshake fails), or, where somebody else
    is there, `Refused`; then there is no connection.
    """
    loop = asyncio.get_running_loop()
    if tls is None:
        try:
            async with asyncio.timeout(connect_within):
                return await loop.create_connection(make, address.host, address.port)
        except TimeoutError:
            raise Late(f"no connection within {connect_within:.3g} s") from None
    try:
        async with asyncio.timeout(connect_within):
            plain = await _connected(address)
    except TimeoutError:
        raise Late(f"no connection within {connect_within:.3g} s") from None
    try:
        async with asyncio.timeout(shake_within):
            transport, protocol = await loop.create_connection(
                make, sock=plain, ssl=tls.context, server_hostname=""
            )
    except BaseException as exc:
        plain.close()
        if isinstance(exc, TimeoutError):
            raise Late(f"no TLS handshake within {shake_within:.3g} s") from None
        raise
    try:
        tls.check(transport.get_extra_info("peercert"))
    except Refused:
        transport.abort()
        raise
    return transport, protocol


async def _connected(address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    family, kind, number, _, where = found[0]
    plain = socket.socket(family, kind, number)
    try:
        plain.setblocking(False)
        await loop.sock_connect(plain, where)
    except BaseException:
        plain.close()
        raise
    return plain
