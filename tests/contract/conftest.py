"""The brokers under test, and clients of them."""

from collections.abc import AsyncIterator

import pytest

from seawall.messaging.base import Subscription, Transport
from seawall.messaging.connect import open_transport
from tests.support.brokers import MORE, USUAL, chosen
from tests.support.capabilities import watched
from tests.support.transports import Opener


@pytest.fixture(params=chosen(*USUAL, *MORE))
def broker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(request: pytest.FixtureRequest, broker: str, unique: str) -> str:
    if broker == "memory":
        return f"memory://{unique}"
    server = {"sqs": "aws"}.get(broker, broker)
    return str(request.getfixturevalue(server).url)


@pytest.fixture(params=["memory", "valkey", "redis"])
def space(request: pytest.FixtureRequest, unique: str) -> str:
    """The URL of what keeps registry, ledger and sessions, with a space of this test's own."""
    if request.param == "memory":
        return f"memory://{unique}"
    return f"{request.getfixturevalue(request.param).url}?namespace={unique}"


@pytest.fixture
async def connect(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Opener]:
    """Opens further clients of the broker under test, and closes them."""
    opened: list[Transport] = []

    async def connect() -> Transport:
        transport = watched(open_transport(url, observer=facts.append), request.node)
        opened.append(transport)
        await transport.open()
        return transport

    facts: list[object] = []
    connect.facts = facts  # type: ignore[attr-defined]
    yield connect
    for transport in opened:
        await transport.aclose()


@pytest.fixture
async def transport(connect: Opener) -> Transport:
    return await connect()


@pytest.fixture
def rival(connect: Opener, transport: Transport) -> Opener:
    """Opens clients that compete with `transport`."""

    async def rival() -> Transport:
        # Where a partition has one owner, others get its messages only when it moves, which
        # tests/integration/messaging/test_kafka.py has it do: here a client competes with itself.
        return await connect() if transport.caps.shared else transport

    return rival


@pytest.fixture
async def sub(unique: str, transport: Transport) -> Subscription:
    subscription = Subscription(unique, "readers")
    if not transport.caps.replay:  # else it would miss what tests publish before they fetch
        await transport.provision([subscription])
    return subscription
