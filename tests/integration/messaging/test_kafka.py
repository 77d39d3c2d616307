"""What is peculiar to Kafka: partitions that move, crashes that count, connections that are cut."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from seawall.errors import Misconfigured
from seawall.messaging.base import Message, Subscription, Transport
from seawall.messaging.connect import open_transport
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.messaging.transports.kafka_options import Kafka
from tests.contract.test_transport_faults import Seen, messages
from tests.support import servers
from tests.support.brokers import chosen
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(not chosen("kafka"), reason="not among SEAWALL_TEST_BROKERS")

CONFIG = ConsumerConfig(concurrency=8, lease=6.0, wait=0.5, drain=2.0)

Opener = Callable[[str], Awaitable[Transport]]


@pytest.fixture
async def connect() -> AsyncIterator[Opener]:
    opened: list[Transport] = []

    async def connect(url: str) -> Transport:
        transport = open_transport(url)
        opened.append(transport)
        await transport.open()
        return transport

    yield connect
    for transport in opened:
        await transport.aclose()


@pytest.fixture
def model() -> Iterator[servers.KafkaModel]:
    server = servers.KafkaModel()
    yield server
    server.stop()


async def test_members_share_partitions_and_inherit_them(
    kafka: servers.KafkaServer, connect: Opener, unique: str
) -> None:
    url = f"kafka://127.0.0.1:{kafka.port}?idempotent=false&partitions=4"
    one, two = await connect(url), await connect(url)
    sub = Subscription(unique, "g")
    first, second = Seen(), Seen()

    async def publish(names: list[str]) -> None:
        parcel = [Message(name, b"", key=name) for name in names]
        assert {receipt.error for receipt in await one.publish(unique, parcel)} == {None}

    await publish([f"a{n}" for n in range(100)])
    async with Consumer(two, sub, second, config=CONFIG):
        async with Consumer(one, sub, first, config=CONFIG):
            await eventually(lambda: len(first) + len(second) >= 100, within=15)
            turn = 0
            while not (len(first) and len(second)):
                turn += 1
                assert turn < 100
                before = len(first) + len(second)
                await publish([f"b{turn}-{n}" for n in range(20)])
                await eventually(lambda before=before: len(first) + len(second) > before)  # type: ignore[misc]
        await one.aclose()
        publisher = await connect(url)
        last = [Message(f"c{n}", b"", key=f"c{n}") for n in range(100)]
        await publisher.publish(unique, last)
        await eventually(lambda: {m.id for m in last} <= second.attempts.keys(), within=15)


DOOMED = """
import asyncio, sys
from seawall.messaging.base import Subscription
from seawall.messaging.connect import open_transport

async def main(url, topic):
    transport = open_transport(url)
    found = []
    while len(found) < 10:
        found += await transport.fetch(Subscription(topic, "g"), 10, wait=5, lease=30)
    await transport.ack(found[5:])
    print("held", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_crash_counts_and_idempotent_producers_are_the_default(
    model: servers.KafkaModel, connect: Opener, unique: str
) -> None:
    url = f"kafka://{model.address}?create=false&member=0/1"
    transport = await connect(url)
    sub = Subscription(unique, "g")
    await transport.provision([sub])
    for part in messages(10):
        (receipt,) = await transport.publish(unique, [Message(part.id, b"", key="one")])
        assert receipt.error is None
    doomed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DOOMED, url, unique), stdout=asyncio.subprocess.PIPE
    )
    assert doomed.stdout is not None
    assert await doomed.stdout.readline() == b"held\n"
    doomed.kill()
    await doomed.wait()
    found = []
    async with asyncio.timeout(10):
        while len(found) < 5:
            found += await transport.fetch(sub, 10, wait=1, lease=30)
    # What was done stays done, though a gap was before it; what was under way counts.
    assert [(each.message.id, each.attempt) for each in found] == [(str(n), 2) for n in range(5)]
    await transport.ack(found)
    assert (await transport.lag(sub)).ready == 0


async def test_names_that_are_too_long_are_refused(
    kafka: servers.KafkaServer, connect: Opener
) -> None:
    transport = await connect(f"kafka://127.0.0.1:{kafka.port}")
    with pytest.raises(Misconfigured, match="249 characters"):
        await transport.provision([Subscription("x" * 240, "g" * 20)])


def test_a_url_says_everything() -> None:
    url = "kafkas://me:p%40ss@one:9092,two:9092?member=1/3&linger.ms=2&partitions=9"
    options = Kafka.parse(url)
    assert (options.servers, options.tls) == ("one:9092,two:9092", True)
    assert (options.username, options.password) == ("me", "p@ss")
    assert (options.member, options.partitions) == ((1, 3), 9)
    assert options.settings == {"linger.ms": "2"}


@pytest.mark.parametrize(
    "url", ["kafka://", "kafka://h?member=2/2", "kafka://h?odd=1", "kafka://h?create=maybe"]
)
def test_what_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured):
        open_transport(url)
