"""What a durable transport promises when processes, brokers and networks fail."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from seawall.errors import NotSent, OutcomeUnknown, Unavailable
from seawall.messaging.base import Delivery, Message, Subscription, Transport
from seawall.messaging.connect import open_transport
from seawall.messaging.consumer import Consumer, ConsumerConfig
from seawall.messaging.facts import BrokerAway, BrokerBack
from seawall.messaging.publisher import Publisher
from seawall.messaging.transports import nats_layout, rabbit_layout
from seawall.messaging.transports.nats import NatsTransport
from seawall.messaging.transports.rabbitmq import RabbitTransport
from seawall.messaging.transports.resp import Server
from seawall.messaging.transports.valkey import ValkeyTransport
from tests.support import servers
from tests.support.brokers import chosen
from tests.support.cutting import CuttableRelay
from tests.support.waiting import eventually, eventually_async

LEASE = 1.0  # a killed consumer's messages come back after it
CONFIG = ConsumerConfig(concurrency=8, lease=LEASE, wait=0.5, drain=2.0)

Opener = Callable[[str], Awaitable[Transport]]
Broker = servers.RespServer | servers.NatsServer | servers.RabbitServer


@pytest.fixture(params=chosen("valkey", "redis", "nats", "rabbitmq"))
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A server to be killed."""
    if request.param == "rabbitmq":
        yield request.getfixturevalue("rabbitmq_to_kill")
        return
    start = {"valkey": servers.valkey, "redis": servers.redis, "nats": servers.nats}
    server = start[request.param]()
    yield server
    server.stop()


@pytest.fixture
async def connect() -> AsyncIterator[Opener]:
    opened: list[Transport] = []

    async def connect(url: str) -> Transport:
        # Shorter than the default, so that a paused broker is noticed within a test.
        if url.startswith("redis"):
            transport: Transport = ValkeyTransport(Server.parse(url), timeout=1.0)
        else:
            transport = open_transport(f"{url}?timeout=1.0")
        opened.append(transport)
        return transport

    yield connect
    for transport in opened:
        await transport.aclose()


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
        lag = await transport.lag(sub)
        return (lag.ready, lag.in_flight, lag.dead) == (0, 0, 0)

    await eventually_async(settled, within=10)


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

async def main(url, topic, lease):
    transport = open_transport(url)
    handled = 0

    async def handle(delivery):
        nonlocal handled
        handled += 1
        print(delivery.message.id, flush=True)
        if handled > 200:
            await asyncio.Event().wait()  # until it is killed

    config = ConsumerConfig(concurrency=8, lease=float(lease))
    async with Consumer(transport, Subscription(topic, "g"), handle, config=config):
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_kill_9_of_a_consumer_loses_nothing_and_counts(
    broker: Broker, connect: Opener, unique: str
) -> None:
    transport = await connect(broker.url)
    sub = Subscription(unique, "g")
    await transport.publish(unique, messages(1_000))
    doomed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DOOMED, broker.url, unique, str(LEASE)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert doomed.stdout is not None
    handled = [(await doomed.stdout.readline()).decode().strip() for _ in range(208)]
    doomed.kill()
    await doomed.wait()
    unfinished = set(handled[200:])

    seen = Seen()
    async with Consumer(transport, sub, seen, config=CONFIG):
        await eventually(lambda: len(set(handled[:200]) | set(seen.attempts)) == 1_000, within=10)
        await eventually(lambda: unfinished <= set(seen.attempts), within=10)
        await all_settled(transport, sub)
    assert all(attempts[0] == 2 for name, attempts in seen.attempts.items() if name in unfinished)


@pytest.mark.timeout(120)  # RabbitMQ takes ten seconds to start
async def test_kill_9_of_the_broker_loses_nothing_that_was_stored(
    broker: Broker, connect: Opener, unique: str
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
            await eventually(lambda enough=start * 1_000 + 200: len(seen) > enough)  # type: ignore[misc]
            broker.kill()
            await eventually(lambda: isinstance(facts[-1], BrokerAway))
            await asyncio.to_thread(broker.start)
            await publishing
        await eventually(lambda: len(seen) == kills * 1_000, within=15)
        await all_settled(transport, sub)
    assert any(isinstance(fact, BrokerBack) for fact in facts)


async def test_a_paused_broker_is_given_up_in_time_and_used_again(
    broker: Broker, connect: Opener, unique: str
) -> None:
    transport = await connect(broker.url)
    sub = Subscription(unique, "g")
    await transport.publish(unique, messages(1))
    clock = asyncio.get_running_loop().time
    broker.pause()
    began = clock()
    with pytest.raises(OutcomeUnknown):
        await transport.publish(unique, [Message("x", b"")])
    assert clock() - began < 2.0
    with pytest.raises(Unavailable):  # no answer to a greeting either
        await transport.fetch(sub, 1, wait=0, lease=LEASE)
    broker.resume()
    seen = Seen()
    async with Consumer(transport, sub, seen, config=CONFIG):
        await eventually(lambda: "0" in seen.attempts)


@pytest.mark.parametrize("server", [servers.RespServer, servers.NatsServer, servers.RabbitServer])
async def test_no_broker_is_told_at_once(
    connect: Opener, unique: str, server: type[Broker]
) -> None:
    transport = await connect(server.url_at(servers.free_port()))
    for call in (
        lambda: transport.open(),
        lambda: transport.publish(unique, messages(1)),
        lambda: transport.fetch(Subscription(unique, "g"), 1, wait=5, lease=LEASE),
        lambda: transport.lag(Subscription(unique, "g")),
    ):
        async with asyncio.timeout(1):
            with pytest.raises(Unavailable):
                await call()


@pytest.mark.timeout(120)
async def test_a_consumer_starts_without_a_broker(
    broker: Broker, connect: Opener, unique: str
) -> None:
    broker.kill()
    transport = await connect(broker.url)
    seen = Seen()
    async with Consumer(transport, Subscription(unique, "g"), seen, config=CONFIG) as consumer:
        await eventually(lambda: consumer.snapshot().away)
        await asyncio.to_thread(broker.start)
        await publish_all(Publisher(transport), unique, messages(1))
        await eventually(lambda: len(seen) == 1)
        assert not consumer.snapshot().away


async def test_cut_connections_are_made_again_and_lose_nothing(
    broker: Broker, connect: Opener, unique: str
) -> None:
    async with CuttableRelay(broker.port) as relay:
        transport = await connect(broker.url_at(relay.port))
        seen = Seen()
        sub = Subscription(unique, "g")
        async with Publisher(transport) as publisher, Consumer(transport, sub, seen, config=CONFIG):
            for turn in range(5):
                publishing = asyncio.gather(
                    publish_all(publisher, unique, messages(1_000)[turn * 200 : turn * 200 + 200])
                )
                await eventually(lambda enough=turn * 200: len(seen) > enough, within=10)  # type: ignore[misc]
                relay.cut()
                await publishing
            await eventually(lambda: len(seen) == 1_000, within=10)
        assert relay.accepted > 5


async def test_a_broker_that_lost_everything_is_set_up_again(
    broker: Broker, connect: Opener, unique: str
) -> None:
    transport = await connect(broker.url)
    seen = Seen()
    async with Consumer(transport, Subscription(unique, "g"), seen, config=CONFIG):
        await transport.publish(unique, messages(1))
        await eventually(lambda: len(seen) == 1)
        await forget(transport, Subscription(unique, "g"))
        await transport.publish(unique, [Message("after", b"")])
        await eventually(lambda: "after" in seen.attempts)


async def forget(transport: Transport, sub: Subscription) -> None:
    """Have the broker lose what it has of a subscription, as an operator can."""
    if isinstance(transport, ValkeyTransport):
        await transport._link.call("FLUSHALL")
    elif isinstance(transport, NatsTransport):
        place = nats_layout.Topic.of(sub.topic)
        for stream in (place.stream, place.work):
            await transport._link.api((f"STREAM.DELETE.{stream}", {}))
    elif isinstance(transport, RabbitTransport):
        group = rabbit_layout.Group.of(sub)
        await transport._link.on_channel(lambda c: c.exchange_delete(group.topic.exchange))
        await transport._link.on_channel(lambda c: c.queue_delete(group.queue))


async def test_a_poison_message_ends_among_the_dead_letters(broker: Broker, unique: str) -> None:
    """Its handler kills the process each time; the others' messages are handled."""
    transport = open_transport(broker.url)
    sub = Subscription(unique, "g")
    await transport.publish(unique, [Message("poison", b"")])
    for _ in range(4):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", POISONED, broker.url, unique, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        if b"dead" in output:
            break
        assert process.returncode == -signal.SIGKILL
    (letter,) = await transport.dead_letters(sub)
    assert (letter.message.id, letter.reason, letter.attempts) == ("poison", "poison", 3)
    await transport.aclose()


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
    policy, config = RetryPolicy(attempts=2), ConsumerConfig(lease=0.3)
    transport = open_transport(url)
    async with Consumer(transport, sub, handle, retry=policy, config=config, observer=observe):
        await died.wait()
    await transport.aclose()
    print("dead")

asyncio.run(main(*sys.argv[1:]))
"""
