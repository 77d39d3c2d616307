"""What is waited for, how long, and what it is called when it is too long."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.errors import Refused
from seawall.topology import Address
from seawall.transport.dialing import Late, dial
from tests.support.identified import Issuing, Stock, serving
from tests.support.servers import free_port


@pytest.fixture
def issuing(tmp_path: Path) -> Issuing:
    return Issuing(tmp_path)


@pytest.fixture
def silent() -> Iterator[Address]:
    """The kernel takes connections there, and nobody accepts them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Address(*listener.getsockname()[:2])


async def test_a_process_that_accepts_late_is_waited_for(issuing: Issuing, silent: Address) -> None:
    ours, _ = await issuing.credentials("orders")
    tls = ours.towards("inventory")
    with pytest.raises(Late, match=r"no TLS handshake within 0\.05 s"):
        await dial(asyncio.Protocol, silent, tls, connect_within=20.0, shake_within=0.05)
    # Without TLS there is nothing to wait for.
    transport, _ = await dial(
        asyncio.Protocol, silent, None, connect_within=20.0, shake_within=0.05
    )
    transport.abort()


async def test_names_are_looked_up(issuing: Issuing) -> None:
    callee, _ = await issuing.credentials("inventory", ("orders",))
    ours, _ = await issuing.credentials("orders")
    async with serving(Stock(), callee) as address:
        named = Address("localhost", address.port)
        for tls in (ours.towards("inventory"), None):
            transport, _ = await dial(
                asyncio.Protocol, named, tls, connect_within=20.0, shake_within=20.0
            )
            assert bool(transport.get_extra_info("peercert")) is (tls is not None)
            transport.abort()


async def test_who_fails_leaves_no_connection(issuing: Issuing) -> None:
    callee, _ = await issuing.credentials("catalog", ("orders",))
    ours, _ = await issuing.credentials("orders")
    tls = ours.towards("inventory")
    nobody = Address("127.0.0.1", free_port())
    with pytest.raises(ConnectionRefusedError):
        await dial(asyncio.Protocol, nobody, tls, connect_within=20.0, shake_within=20.0)
    async with serving(Stock(), callee) as address:
        with pytest.raises(Refused, match="catalog answers where"):
            await dial(asyncio.Protocol, address, tls, connect_within=20.0, shake_within=20.0)
    async with serving(Stock(), None) as address:
        with pytest.raises(ssl.SSLError):
            await dial(asyncio.Protocol, address, tls, connect_within=20.0, shake_within=20.0)
