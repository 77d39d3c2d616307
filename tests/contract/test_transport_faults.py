"""What a durable transport promises when processes, brokers and networks fail."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest

from seawall.errors import NotSent, OutcomeUnknown, Unavailable
from seawall.messaging.base import Delivery, Message, Receipt, Subscription, Transport
from seawall.messaging.connect import open_transport
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.messaging.facts import BrokerAway, BrokerBack
from seawall.messaging.publisher import Publisher
from seawall.messaging.transports import nats_layout, rabbit_layout
from seawall.messaging.transports.resp import Server
from seawall.messaging.transports.valkey import ValkeyTransport
from tests.support import servers
from tests.support.brokers import chosen
from tests.support.capabilities import watched
from tests.support.cutting import CuttableRelay
from tests.support.waiting import eventually, eventually_async

LEASE = 1.0  # a killed consumer's messages come back after it
CONFIG = ConsumerConfig(concurrency=8, lease=LEASE, wait=0.5, drain=2.0)

Opener = Callable[[str], Awaitable[Transport]]
Broker = (
    servers.RespServer
    | servers.NatsServer
    | servers.RabbitServer
    | servers.KafkaModel
    | servers.AwsServer
)
KINDS: Mapping[str, Any] = {
    "valkey": servers.RespServer,
    "redis": servers.RespServer,
    "rabbitmq": servers.RabbitServer,
    "nats": servers.NatsServer,
    "kafka": servers.KafkaServer,
    "sqs": servers.AwsServer,
}
DURABLE = ("valkey", "redis", "rabbitmq", "nats")
ALL = (*DURABLE, "kafka", "sqs")  # in tests the last two keep everything in memory

# Kafka where a member dies is librdkafka's model of a cluster: it keeps the text beside an offset,
# in which attempts are counted. Where connections are cut it is Tansu, which can be told that its
# address is a relay's.
START = {
    "valkey": servers.valkey,
    "redis": servers.redis,
    "nats": servers.nats,
    "kafka": servers.KafkaModel,
}
SHARED = {"rabbitmq": "rabbitmq_to_kill", "sqs": "aws"}  # another one takes seconds to start


def on(*brokers: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", chosen(*brokers))


@pytest.fixture
def broker(request: pytest.FixtureRequest, name: str) -> Iterator[Broker]:
    """A server to be killed."""
    if name in SHARED:
        server = request.getfixturevalue(SHARED[name])
        yield server
        server.resume()
        return
    server = START[name]()
    yield server
    server.stop()


@pytest.fixture
async def relay(request: pytest.FixtureRequest, name: str) -> AsyncIterator[CuttableRelay]:
    """The way to a server, to be cut."""
    async with CuttableRelay(0) as relay:
        if name == "kafka":
            server = await asyncio.to_thread(servers.kafka, relay.port)
        else:
            server = request.getfixturevalue({"sqs": "aws"}.get(name, name))
        relay.lead_to(server.port)
        yield relay
        if name == "kafka":
            server.stop()


@pytest.fixture
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    opened: list[Transport] = []

    async def connect(url: str) -> Transport:
        if url.startswith("redis"):
            transport: Transport = ValkeyTransport(Server.parse(url), timeout=timeout_of("redis"))
        else:
            timeout = timeout_of("sqs" if url.startswith("sqs") else "")
            transport = open_transport(f"{url}{'&' if '?' in url else '?'}timeout={timeout}")
        opened.append(transport)
        return watched(transport, request.node)

    yield connect
    for transport in opened:
        await transport.aclose()


def timeout_of(name: str) -> float:
    """Shorter than the default, so that a paused broker is noticed within a test. But moto, a
    model of SQS, is slow."""
    return 3.0 if name == "sqs" else 1.0


def messages(count: int) -> list[Message]:
    return [Message(str(n), b"{}", {"ce-id": str(n)}) for n in range(count)]


async def publish_all(publisher: Publisher, topic: str, batch: list[Message]) -> None:
    """As a careful client: tries again with the same id until it is stored."""

    async def one(message: Message) -> None:
        while True:
            try:
                await publisher.publish(topic, message)
            except (NotSent, OutcomeUnknown):
                await asyncio.get_running_loop().run_in_executor(None, _moment)
            else:
                return

    await asyncio.gather(*(one(message) for message in batch))


async def all_settled(transport: Transport, sub: Subscription) -> None:
    """Return when nothing is left. What was handled, and whose acknowledgement was lost, first
    comes again when its lease has run out."""

    async def settled() -> bool:
        with suppress(NotSent, OutcomeUnknown):  # a broker that has just started may be slow
            lag = await transport.lag(sub)
            return (lag.ready, lag.in_flight, lag.dead) == (0, 0, 0)
        return False

    await eventually_async(settled, within=15)


def _moment() -> None:
    """Longer than one try; the broker is away for a while anyway."""
    signal.sigtimedwait([], 0.02)


class Seen:
    """A handler that remembers."""

    def __init__(self) -> None:
        self.attempts: dict[str, list[int]] = {}

    async def __call__(self, delivery: Delivery) -> None:
        self.attempts.setdefault(delivery.message.id, []).append(delivery.attempt)

    def __len__(self) -> int:
        return len(self.attempts)


DOOMED = """
import asyncio, sys
from seawall.messaging.base import Subscription
from seawall.messaging.connect import open_transport
from seawall.messaging.consumer import Consumer, ConsumerConfig

async def main(url, topic, lease, before):
    transport = open_transport(url)
    handled = 0

    async def handle(delivery):
        nonlocal handled
        handled += 1
        print(delivery.message.id, flush=True)
        if handled > int(before):
            await asyncio.Event().wait()  # until it is killed

    config = ConsumerConfig(concurrency=8, lease=float(lease))
    async with Consumer(transport, Subscription(topic, "g"), handle, config=config):
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@on(*ALL)
async def test_kill_9_of_a_consumer_loses_nothing_and_counts(
    broker: Broker, name: str, connect: Opener, unique: str
) -> None:
    transport = await connect(broker.url)
    sub = Subscription(unique, "g")
    count, before = (20, 8) if name == "sqs" else (1_000, 200)  # moto is slow
    await transport.provision([sub])
    await transport.publish(unique, messages(count))
    doomed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DOOMED, broker.url, unique, str(LEASE), str(before)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert doomed.stdout is not None
    handled = [(await doomed.stdout.readline()).decode().strip() for _ in range(before + 8)]
    doomed.kill()
    await doomed.wait()
    unfinished = set(handled[before:])

    seen = Seen()
    async with Consumer(transport, sub, seen, config=CONFIG):
        await eventually(lambda: len({*handled[:before], *seen.attempts}) == count, within=15)
        await eventually(lambda: unfinished <= set(seen.attempts), within=10)
        await all_settled(transport, sub)
    counted = {seen.attempts[each][0] for each in unfinished}
    if transport.caps.repeats:
        assert min(counted) >= 2
    else:
        assert counted == {2}


PRODUCER = """
import asyncio, itertools, sys
from seawall.messaging.base import Message
from seawall.messaging.connect import open_transport
from seawall.messaging.publisher import Publisher

async def main(url, topic):
    transport = open_transport(url)

    async def publish(numbers):
        for n in numbers:
            await publisher.publish(topic, Message(str(n), b"{}"))
            print(n, flush=True)

    async with Publisher(transport) as publisher:
        await asyncio.gather(*(publish(itertools.count(start, 8)) for start in range(8)))

asyncio.run(main(*sys.argv[1:]))
"""


@on(*ALL)
async def test_kill_9_of_a_producer_loses_nothing_it_was_told_is_stored(
    broker: Broker, name: str, connect: Opener, unique: str
) -> None:
    transport = await connect(broker.url)
    sub = Subscription(unique, "g")
    await transport.provision([sub])
    doomed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PRODUCER, broker.url, unique), stdout=asyncio.subprocess.PIPE
    )
    assert doomed.stdout is not None
    enough = 10 if name == "sqs" else 200
    stored = [(await doomed.stdout.readline()).decode().strip() for _ in range(enough)]
    doomed.kill()
    stored += [line.decode().strip() async for line in doomed.stdout if line.endswith(b"\n")]
    await doomed.wait()
    seen = Seen()
    async with Consumer(transport, sub, seen, config=CONFIG):
        await eventually(lambda: set(stored) <= set(seen.attempts), within=15)


@on(*DURABLE)
async def test_kill_9_of_the_broker_loses_nothing_that_was_stored(
    broker: Any, connect: Opener, unique: str
) -> None:
    transport = await connect(broker.url)
    facts: list[object] = []
    seen = Seen()
    sub = Subscription(unique, "g")
    if isinstance(broker, servers.RabbitServer):
        await transport.provision([sub])
        await asyncio.to_thread(broker.settle)
    consumer = Consumer(transport, sub, seen, config=CONFIG, observer=facts.append)
    async with Publisher(transport) as publisher, consumer, asyncio.TaskGroup() as tasks:
        kills = 1 if isinstance(broker, servers.RabbitServer) else 3
        for start in range(kills):
            part = messages(3_000)[start * 1_000 : (start + 1) * 1_000]
            publishing = tasks.create_task(publish_all(publisher, unique, part))
            await eventually(lambda enough=start * 1_000 + 200: len(seen) > enough, within=15)  # type: ignore[misc]
            facts.clear()
            broker.kill()
            await eventually(lambda: any(isinstance(fact, BrokerAway) for fact in facts))
            await asyncio.to_thread(broker.start)
            await publishing
        await eventually(lambda: len(seen) == kills * 1_000, within=15)
        await all_settled(transport, sub)
    assert any(isinstance(fact, BrokerBack) for fact in facts)


@on(*ALL)
async def test_a_paused_broker_is_given_up_in_time_and_used_again(
    broker: Broker, name: str, connect: Opener, unique: str
) -> None:
    transport = await connect(broker.url)
    sub = Subscription(unique, "g")
    await transport.provision([sub])
    await transport.publish(unique, messages(1))
    clock = asyncio.get_running_loop().time
    broker.pause()
    began = clock()
    try:
        (receipt,) = await transport.publish(unique, [Message("x", b"")])
    except OutcomeUnknown as error:
        receipt = Receipt("x", error)
    finally:
        broker.resume()  # a connection to it cannot be closed while it is paused
    assert isinstance(receipt.error, OutcomeUnknown)
    assert clock() - began < timeout_of(name) + 10  # it would be paused for ever
    seen = Seen()
    async with Consumer(transport, sub, seen, config=CONFIG):
        await eventually(lambda: "0" in seen.attempts, within=10)


@on(*ALL)
async def test_no_broker_is_told_in_time(connect: Opener, unique: str, name: str) -> None:
    transport = await connect(KINDS[name].url_at(servers.free_port()))
    for call in (
        lambda: transport.open(),
        lambda: transport.publish(unique, messages(1)),
        lambda: transport.fetch(Subscription(unique, "g"), 1, wait=5, lease=LEASE),
        lambda: transport.lag(Subscription(unique, "g")),
    ):
        async with asyncio.timeout(10):
            with pytest.raises(Unavailable):
                await call()


@on(*ALL)
async def test_a_consumer_starts_without_a_broker(
    relay: CuttableRelay, name: str, connect: Opener, unique: str
) -> None:
    await relay.close()
    transport = await connect(KINDS[name].url_at(relay.port))
    seen = Seen()
    async with Consumer(transport, Subscription(unique, "g"), seen, config=CONFIG) as consumer:
        await eventually(lambda: consumer.snapshot().away, within=10)
        await relay.open()
        await eventually(lambda: not consumer.snapshot().away, within=10)
        await publish_all(Publisher(transport), unique, messages(1))
        await eventually(lambda: len(seen) == 1)


@on(*ALL)
async def test_cut_connections_are_made_again_and_lose_nothing(
    relay: CuttableRelay, name: str, connect: Opener, unique: str
) -> None:
    transport = await connect(KINDS[name].url_at(relay.port))
    seen = Seen()
    sub = Subscription(unique, "g")
    await transport.provision([sub])
    turns, part = {"sqs": (2, 20), "kafka": (3, 200)}.get(name, (5, 200))
    sent = messages(turns * part)
    async with Publisher(transport) as publisher, Consumer(transport, sub, seen, config=CONFIG):
        for start in range(0, len(sent), part):
            publishing = asyncio.gather(publish_all(publisher, unique, sent[start : start + part]))
            await eventually(lambda enough=start: len(seen) > enough, within=10)  # type: ignore[misc]
            relay.cut()
            await publishing
        await eventually(lambda: len(seen) == len(sent), within=15)
    assert relay.accepted > 1  # a cut may meet a client that was still connecting


@on(*ALL)
async def test_settling_over_cut_connections_loses_nothing(
    relay: CuttableRelay, name: str, connect: Opener, unique: str
) -> None:
    """What takes two steps copies first: cut in between it leaves two, never none."""
    transport = await connect(KINDS[name].url_at(relay.port))
    sub = Subscription(unique, "g")
    names = [str(n) for n in range(6 if name in ("kafka", "sqs") else 12)]
    await transport.provision([sub])
    receipts = await transport.publish(unique, [Message(each, b"{}") for each in names])
    assert not any(receipt.error for receipt in receipts)
    for turn in range(len(names)):
        with suppress(NotSent, OutcomeUnknown):
            for delivery in await transport.fetch(sub, 1, wait=2, lease=LEASE):
                relay.cut_after(1 + turn)  # each time a little later
                await _settle(transport, turn, delivery)
        relay.cut()

    kept: set[str] = set()

    async def all_kept() -> bool:
        with suppress(NotSent, OutcomeUnknown):
            kept.update(d.message.id for d in await transport.fetch(sub, 12, wait=1, lease=LEASE))
            kept.update(letter.message.id for letter in await transport.dead_letters(sub))
        return kept == set(names)

    await eventually_async(all_kept, within=20)


async def _settle(transport: Transport, turn: int, delivery: Delivery) -> None:
    if turn % 3 == 0:
        await transport.retry(delivery, delay=0.1, error="cut")
    elif turn % 3 == 1:
        await transport.dead(delivery, reason="rejected", error="cut")
    else:
        await transport.release([delivery])


@on(*DURABLE)
async def test_a_broker_that_lost_everything_is_set_up_again(
    broker: Broker, connect: Opener, unique: str
) -> None:
    transport = await connect(broker.url)
    seen = Seen()
    async with Consumer(transport, Subscription(unique, "g"), seen, config=CONFIG):
        await transport.publish(unique, messages(1))
        await eventually(lambda: len(seen) == 1)
        await forget(transport, Subscription(unique, "g"), broker)
        await transport.publish(unique, [Message("after", b"")])
        await eventually(lambda: "after" in seen.attempts)


async def forget(transport: Any, sub: Subscription, broker: Broker) -> None:
    """Have the broker lose what it has of a subscription, as an operator can."""
    if isinstance(broker, servers.RespServer):
        await transport._link.call("FLUSHALL")
    elif isinstance(broker, servers.NatsServer):
        place = nats_layout.Topic.of(sub.topic)
        for stream in (place.stream, place.work):
            await transport._link.api((f"STREAM.DELETE.{stream}", {}))
    else:
        group = rabbit_layout.Group.of(sub)
        await transport._link.on_channel(lambda c: c.exchange_delete(group.topic.exchange))
        await transport._link.on_channel(lambda c: c.queue_delete(group.queue))


@on(*DURABLE, "kafka")
async def test_a_poison_message_ends_among_the_dead_letters(
    broker: Broker, connect: Opener, unique: str
) -> None:
    """Its handler kills the process each time; the others' messages are handled."""
    transport = await connect(broker.url)
    sub = Subscription(unique, "g")
    await transport.provision([sub])
    await transport.publish(unique, [Message("poison", b"")])
    for _ in range(6):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", POISONED, broker.url, unique, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        if b"dead" in output:
            break
        assert process.returncode == -signal.SIGKILL
    (letter,) = await transport.dead_letters(sub)
    assert (letter.message.id, letter.reason) == ("poison", "poison")
    # More where a process was too slow to take up in time what it had been given.
    assert letter.attempts >= 2


POISONED = """
import asyncio, os, signal, sys
from seawall.messaging.base import Subscription
from seawall.messaging.connect import open_transport
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.messaging.facts import Died
from seawall.messaging.policy import RetryPolicy

async def main(url, topic):
    died = asyncio.Event()

    async def handle(delivery):
        os.kill(os.getpid(), signal.SIGKILL)

    def observe(fact):
        if isinstance(fact, Died):
            died.set()

    sub = Subscription(topic, "g")
    policy, config = RetryPolicy(attempts=1), ConsumerConfig(lease=1.0)
    transport = open_transport(url)
    async with Consumer(transport, sub, handle, retry=policy, config=config, observer=observe):
        await died.wait()
    await transport.aclose()
    print("dead")

asyncio.run(main(*sys.argv[1:]))
"""
