"""The outbox on SQLite and PostgreSQL: published if, and only if, the transaction commits."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from seawall.clock import SYSTEM
from seawall.concurrency.tasks import Tasks
from seawall.errors import Full, OutcomeUnknown, Refused, Unavailable
from seawall.messaging import outbox
from seawall.messaging.announcements import Unheard
from seawall.messaging.base import Delivery, Message, Receipt, Subscription
from seawall.messaging.connect import open_transport
from seawall.messaging.outbox import Backlog, backlog
from seawall.messaging.relay import Relay, RelayConfig, Relayed, RelayStalled
from seawall.messaging.tables import metadata
from seawall.messaging.tables import outbox as table
from seawall.messaging.transports.memory import Broker, MemoryTransport
from tests.support.servers import RespServer
from tests.support.waiting import eventually, eventually_async

TOPIC = "order.placed"
SUB = Subscription(TOPIC, "g")


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(
    request: pytest.FixtureRequest, tmp_path: Path, unique: str
) -> AsyncIterator[AsyncEngine]:
    if request.param == "sqlite":
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'outbox.db'}")
    else:
        server = request.getfixturevalue("postgres")
        # Connections are not kept: the tables are dropped at the end.
        engine = create_async_engine(server.url, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
    yield engine
    await engine.dispose()


class Broken(MemoryTransport):
    """A broker that is away, or refuses, as long as a test wants it to."""

    def __init__(self) -> None:
        super().__init__(Broker())
        self.away = False
        self.refuses: set[str] = set()
        self.fails: set[str] = set()  # once
        self.flaky: Random | None = None
        self.outages = 3  # a row that was handed over meanwhile waits for 3 s
        self.batches: list[list[str]] = []
        self.before: Awaitable[object] | None = None

    async def publish(
        self, topic: str, messages: Sequence[Message], *, delay: float = 0.0
    ) -> Sequence[Receipt]:
        if self.before is not None:
            before, self.before = self.before, None
            await before
        if self.away:
            raise Unavailable("away")
        if self.flaky is not None and self.outages and self.flaky.random() < 0.3:
            self.outages -= 1
            stored = messages if self.flaky.random() < 0.5 else ()
            await super().publish(topic, stored, delay=delay)
            raise OutcomeUnknown("it went away, before or after")
        self.batches.append([message.id for message in messages])
        failed, self.fails = self.fails, set()
        if failed:
            return [
                Receipt(m.id, Unavailable("for the moment") if m.id in failed else None)
                for m in messages
            ]
        fit = [message for message in messages if message.id not in self.refuses]
        await super().publish(topic, fit, delay=delay)
        return [
            Receipt(m.id, Refused("too large") if m.id in self.refuses else None) for m in messages
        ]


@pytest.fixture
async def transport() -> AsyncIterator[Broken]:
    transport = Broken()
    await transport.open()
    await transport.provision([SUB])
    yield transport
    await transport.aclose()


def message(name: object, key: str | None = None) -> Message:
    return Message(str(name), b"body \x00\xff", {"ce-id": str(name), "ü": "ż"}, key)


async def write(engine: AsyncEngine, *messages: Message, delay: float = 0) -> None:
    async with AsyncSession(engine) as session, session.begin():
        for each in messages:
            await outbox.write(session, TOPIC, each, delay)


async def rows(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def published(transport: MemoryTransport, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += await transport.fetch(SUB, count - len(found), wait=1, lease=60)
    return found


async def test_committed_is_published_as_written_and_then_gone(
    engine: AsyncEngine, transport: Broken
) -> None:
    await write(engine, message("a", "k"), message("b"))
    async with Relay(engine, transport) as relay:
        await eventually(lambda: relay.sent == 2)
    assert [d.message for d in await published(transport, 2)] == [message("a", "k"), message("b")]
    assert await rows(engine) == 0


async def test_rolled_back_is_not_published(engine: AsyncEngine, transport: Broken) -> None:
    async with Relay(engine, transport) as relay:
        async with AsyncSession(engine) as session:
            await outbox.write(session, TOPIC, message("never"))
            await session.rollback()
        await write(engine, message("a"))
        await eventually(lambda: relay.sent == 1)
    assert transport.batches == [["a"]]


async def test_a_commit_wakes_the_relay_of_this_process(
    engine: AsyncEngine, transport: Broken
) -> None:
    async with Relay(engine, transport, config=RelayConfig(sweep=60)) as relay:
        await write(engine, message("first"))
        await eventually(lambda: relay.sent == 1)
        for n in range(3):
            await write(engine, message(n))
            await eventually(lambda wanted=n + 2: relay.sent == wanted)  # type: ignore[misc]


async def test_a_commit_after_a_savepoint_wakes_it_too(
    engine: AsyncEngine, transport: Broken
) -> None:
    async with Relay(engine, transport, config=RelayConfig(sweep=60)) as relay:
        async with AsyncSession(engine) as session, session.begin():
            async with session.begin_nested():
                await outbox.write(session, TOPIC, message("a"))
            await outbox.write(session, TOPIC, message("b"))
        await eventually(lambda: relay.sent == 2)


async def test_the_sweep_finds_what_another_process_left(
    engine: AsyncEngine, transport: Broken
) -> None:
    async with Relay(engine, transport, config=RelayConfig(sweep=0.05)) as relay:
        await eventually(lambda: not relay._woken.is_set())
        async with engine.begin() as connection:  # no session: nobody is woken
            values = {"message_id": "x", "topic": TOPIC, "headers": "{}", "body": b""}
            now = SYSTEM.wall()
            await connection.execute(table.insert().values(**values, not_before=now, created=now))
        await eventually(lambda: relay.sent == 1)


async def test_a_delayed_message_leaves_when_it_is_due(
    engine: AsyncEngine, transport: Broken
) -> None:
    clock = asyncio.get_running_loop().time
    async with Relay(engine, transport, config=RelayConfig(sweep=60)) as relay:
        began = clock()
        await write(engine, message("late", "k"), delay=0.4)
        await write(engine, message("now", "k"))  # a delayed one gave up its place
        await eventually(lambda: relay.sent == 2)
        assert clock() - began > 0.35
    assert transport.batches == [["now"], ["late"]]


async def test_batches_are_bounded(engine: AsyncEngine, transport: Broken) -> None:
    await write(engine, *(message(n) for n in range(25)))
    async with Relay(engine, transport, config=RelayConfig(batch=10)) as relay:
        await eventually(lambda: relay.sent == 25)
    assert [len(batch) for batch in transport.batches] == [10, 10, 5]


async def test_what_one_process_commits_leaves_in_bounded_batches_and_order(
    engine: AsyncEngine, transport: Broken
) -> None:
    async with Relay(engine, transport, config=RelayConfig(batch=10, sweep=60)) as relay:
        await write(engine, *(message(n, f"k{n % 2}" if n % 3 else None) for n in range(60)))
        await eventually(lambda: relay.sent == 60)
    assert max(len(batch) for batch in transport.batches) <= 10
    sent = [int(name) for batch in transport.batches for name in batch]
    assert sorted(sent) == list(range(60))
    for key in (0, 1):
        ordered = [n for n in sent if n % 3 and n % 2 == key]
        assert ordered == sorted(ordered)


async def test_commits_while_the_broker_is_away_are_sent_once_when_it_is_back(
    engine: AsyncEngine, transport: Broken
) -> None:
    transport.away = True
    facts: list[object] = []
    config = RelayConfig(batch=3, backoff=0.2, sweep=0.2)
    async with Relay(engine, transport, config=config, observer=facts.append) as relay:
        for n in range(20):
            await write(engine, message(n))
        await eventually(lambda: any(isinstance(fact, RelayStalled) for fact in facts))
        transport.away = False
        await eventually(lambda: relay.sent == 20, within=10)
    sent = [name for batch in transport.batches for name in batch]
    assert sorted(sent, key=int) == [str(n) for n in range(20)]
    assert await rows(engine) == 0


async def test_a_key_keeps_its_order_with_several_relays(
    engine: AsyncEngine, transport: Broken
) -> None:
    for start in range(0, 200, 50):
        await write(engine, *(message(n, f"k{n % 3}") for n in range(start, start + 50)))
    relays = [Relay(engine, transport, config=RelayConfig(batch=7)) for _ in range(4)]
    await asyncio.gather(*(_work_off(relay) for relay in relays))
    sent = [d.message for d in await published(transport, 200)]
    for key in ("k0", "k1", "k2"):
        numbers = [int(m.id) for m in sent if m.key == key]
        assert numbers == sorted(numbers)
    assert len({m.id for m in sent}) == len(sent) == 200
    assert await rows(engine) == 0


async def _work_off(relay: Relay) -> None:
    quiet = 0
    while quiet < 3:  # another relay may hold the heads of all keys for a moment
        quiet = 0 if await relay.relay_once() else quiet + 1
        await SYSTEM.sleep(0.01)


async def test_a_later_row_of_a_key_waits_for_a_claimed_earlier_one(
    engine: AsyncEngine, transport: Broken
) -> None:
    await write(engine, message(1, "k"), message(2, "other"))
    slow, quick = Relay(engine, transport), Relay(engine, transport)
    claimed = await slow._claim()
    await write(engine, message(3, "k"), message(4))
    assert await quick.relay_once() == 1
    assert transport.batches == [["4"]]
    await slow._publish(claimed)
    assert await quick.relay_once() == 1
    assert transport.batches == [["4"], ["1", "2"], ["3"]]


async def test_no_row_overtakes_one_in_the_middle_that_somebody_else_holds(
    engine: AsyncEngine, transport: Broken
) -> None:
    await write(engine, *(message(n, "k") for n in (1, 2, 3)))
    second = table.c.message_id == "2"
    held = {"claimed_by": "somebody", "claimed_until": SYSTEM.wall() + 60}
    async with engine.begin() as connection:
        await connection.execute(table.update().where(second).values(**held))
    relay = Relay(engine, transport)
    assert [await relay.relay_once() for _ in range(2)] == [1, 0]
    async with engine.begin() as connection:
        await connection.execute(table.update().where(second).values(claimed_until=0.0))
    assert await relay.relay_once() == 2
    assert transport.batches == [["1"], ["2", "3"]]


async def test_transactions_of_one_key_leave_in_the_order_in_which_they_were_written(
    engine: AsyncEngine, transport: Broken
) -> None:
    """Though they overlap, in two processes, each with a relay of its own."""
    if engine.dialect.name == "sqlite":
        return  # one transaction at a time
    other = create_async_engine(engine.url, poolclass=NullPool)
    config = RelayConfig(sweep=0.05)
    async with (
        Relay(engine, transport, config=config) as one,
        Relay(other, transport, config=config) as two,
        Tasks() as tasks,
    ):
        async with AsyncSession(engine) as session, session.begin():
            await outbox.write(session, TOPIC, message("first", "k"))
            await write(other, message("another", "l"))
            await eventually(lambda: two.sent == 1)
            second = tasks.start(write(other, message("second", "k")))
            await eventually_async(lambda: _waits_for_a_lock(engine))
        await second
        await eventually(lambda: one.sent + two.sent == 3)
    await other.dispose()
    assert transport.batches == [["another"], ["first"], ["second"]]


async def _waits_for_a_lock(engine: AsyncEngine) -> bool:
    waiting = text("select count(*) from pg_locks where locktype = 'advisory' and not granted")
    async with engine.connect() as connection:
        return bool((await connection.execute(waiting)).scalar())


async def test_relays_hear_of_what_other_processes_commit(
    engine: AsyncEngine, transport: Broken
) -> None:
    if engine.dialect.name == "sqlite":
        return  # which announces nothing to other processes: the sweep finds it
    other = create_async_engine(engine.url, poolclass=NullPool)
    facts: list[object] = []
    async with Relay(
        engine, transport, config=RelayConfig(sweep=60), observer=facts.append
    ) as relay:
        await eventually_async(lambda: _listens(engine))
        await write(other, message("a"), message("b"))
        await eventually(lambda: relay.sent == 2)
        async with engine.connect() as connection:
            await connection.execute(text(f"select pg_terminate_backend(pid) {LISTENING}"))
        await eventually(lambda: any(isinstance(fact, Unheard) for fact in facts))
    await other.dispose()
    assert not await _listens(engine)


LISTENING = "from pg_stat_activity where query ilike 'listen%'"


async def _listens(engine: AsyncEngine) -> bool:
    async with engine.connect() as connection:
        found = await connection.execute(text(f"select count(*) {LISTENING}"))
        return bool(found.scalar())


async def test_a_message_stored_before_an_earlier_one_of_its_key_is_published_again_after_it(
    engine: AsyncEngine, transport: Broken
) -> None:
    transport.fails = {"1"}
    await write(engine, message(1, "k"), message(2, "k"), message(3, "l"), message(4))
    async with Relay(engine, transport, config=RelayConfig(backoff=0.1)) as relay:
        await eventually(lambda: relay.sent == 4)
    assert transport.batches == [["1", "2", "3", "4"], ["1", "2"]]


@pytest.mark.parametrize("seed", range(2))
async def test_a_key_keeps_its_order_whatever_fails(
    engine: AsyncEngine, transport: Broken, seed: int
) -> None:
    """Several relays of several processes, writers beside them, a broker that comes and goes."""
    rng = Random(seed)
    transport.flaky = rng
    others = [create_async_engine(engine.url, poolclass=NullPool) for _ in range(2)]
    config = RelayConfig(batch=7, sweep=0.05, backoff=0.1, claim=5.0)

    async def writer(key: str) -> None:
        for n in range(0, 12, 2):
            source = rng.choice([engine, *others])
            await write(source, message(f"{key}-{n}", key), message(f"{key}-{n + 1}", key))

    async with AsyncExitStack() as stack:
        for each in (engine, *others):
            await stack.enter_async_context(Relay(each, transport, config=config))
        await asyncio.gather(*(writer(f"k{n}") for n in range(3)))
        await eventually_async(lambda: _is_empty(engine), within=25)
    for each in others:
        await each.dispose()
    seen: list[Message] = []
    while found := await transport.fetch(SUB, 500, wait=0, lease=60):
        seen += [delivery.message for delivery in found]
    for key in ("k0", "k1", "k2"):
        first_seen = dict.fromkeys(int(m.id.split("-")[1]) for m in seen if m.key == key)
        assert list(first_seen) == list(range(12))


async def _is_empty(engine: AsyncEngine) -> bool:
    return await rows(engine) == 0


async def test_what_follows_rows_that_were_let_go_does_not_overtake_them(
    engine: AsyncEngine, transport: Broken
) -> None:
    """A transaction that was open when the relay failed, of a key whose rows it held then."""
    if engine.dialect.name == "sqlite":
        return  # where a failing relay waits for that transaction
    facts: list[object] = []
    config = RelayConfig(sweep=0.05, backoff=0.1)
    transport.away = True
    async with Relay(engine, transport, config=config, observer=facts.append) as relay:
        stalled = asyncio.Event()
        transport.before = stalled.wait()
        await write(engine, message("first", "k"))
        async with AsyncSession(engine) as session, session.begin():
            await outbox.write(session, TOPIC, message("second", "k"))
            stalled.set()
            await eventually(lambda: any(isinstance(fact, RelayStalled) for fact in facts))
        transport.away = False
        await eventually(lambda: relay.sent == 2)
    assert [name for batch in transport.batches for name in batch] == ["first", "second"]


async def test_a_batch_claimed_while_another_one_fails_is_let_go(
    engine: AsyncEngine, transport: Broken
) -> None:
    await write(engine, *(message(n) for n in range(4)))
    claimed = 4 if engine.dialect.name == "postgresql" else 2  # SQLite has one writer

    async def are_claimed() -> bool:
        which = select(func.count()).select_from(table).where(table.c.claimed_by != "")
        async with engine.connect() as connection:
            return (await connection.execute(which)).scalar_one() == claimed

    transport.before = eventually_async(are_claimed)
    transport.fails = {"0"}
    async with Relay(engine, transport, config=RelayConfig(batch=2)) as relay:
        await eventually(lambda: relay.sent == 4)
    assert transport.batches == [["0", "1"], ["0", "2"], ["3"]]


async def test_what_a_dead_relay_claimed_is_sent_by_another(
    engine: AsyncEngine, transport: Broken
) -> None:
    await write(engine, message("a", "k"), message("b", "k"))
    dying = Relay(engine, transport, config=RelayConfig(claim=0.2))
    assert len(await dying._claim()) == 2
    async with Relay(engine, transport, config=RelayConfig(sweep=0.05)) as relay:
        await eventually(lambda: relay.sent == 2)
    assert transport.batches == [["a", "b"]]


async def test_nothing_is_lost_while_the_broker_is_away(
    engine: AsyncEngine, transport: Broken
) -> None:
    facts: list[object] = []
    transport.away = True
    config = RelayConfig(backoff=0.1)
    async with Relay(engine, transport, config=config, observer=facts.append) as relay:
        await write(engine, *(message(n, "k") for n in range(10)))
        await eventually(lambda: sum(isinstance(fact, RelayStalled) for fact in facts) > 2)
        async with engine.connect() as connection:
            waiting = await backlog(connection)
        assert waiting.unsent == 10
        assert waiting.oldest_age > 0
        transport.away = False
        await eventually(lambda: relay.sent == 10)
    assert transport.batches == [[str(n) for n in range(10)]]
    assert any(isinstance(fact, Relayed) for fact in facts)


async def test_a_full_outbox_takes_no_more_until_it_has_room(
    engine: AsyncEngine, transport: Broken
) -> None:
    transport.away = True
    config = RelayConfig(backoff=0.1, most=20, batch=5)
    async with Relay(engine, transport, config=config) as relay:
        await write(engine, *(message(n) for n in range(20)))
        await eventually(lambda: relay.full)
        with pytest.raises(Full):
            await write(engine, message("one too many"))
        assert await rows(engine) == 20
        transport.away = False
        await eventually(lambda: not relay.full)
        await write(engine, message("at last"))
        await eventually(lambda: relay.sent == 21)
    assert "one too many" not in [name for batch in transport.batches for name in batch]


async def test_a_relay_stops_though_the_broker_is_away(
    engine: AsyncEngine, transport: Broken
) -> None:
    transport.away = True
    async with asyncio.timeout(10):
        async with Relay(engine, transport):
            await write(engine, message("a"))
    assert await rows(engine) == 1


async def test_what_was_committed_before_the_end_is_sent_at_the_end(
    engine: AsyncEngine, transport: Broken
) -> None:
    async with Relay(engine, transport, config=RelayConfig(sweep=60)):
        await write(engine, message("a"))
    assert transport.batches == [["a"]]


async def test_a_refused_message_stays_with_its_reason_and_holds_up_nobody(
    engine: AsyncEngine, transport: Broken
) -> None:
    transport.refuses = {"huge"}
    async with Relay(engine, transport) as relay:
        await write(engine, message("huge", "k"), message("next", "k"), message("other"))
        await eventually(lambda: relay.sent == 2)
        await write(engine, message("later", "k"))
        await eventually(lambda: relay.sent == 3)
    async with engine.connect() as connection:
        assert await backlog(connection) == Backlog(unsent=0, refused=1, oldest_age=0)
        reason = (await connection.execute(select(table.c.refused))).scalar_one()
    assert reason == "too large"


async def test_a_missing_table_is_reported_and_waited_for(
    engine: AsyncEngine, transport: Broken
) -> None:
    facts: list[object] = []
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
    async with Relay(
        engine, transport, config=RelayConfig(backoff=0.1), observer=facts.append
    ) as relay:
        await eventually(lambda: any(isinstance(fact, RelayStalled) for fact in facts))
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await write(engine, message("a"))
        await eventually(lambda: relay.sent == 1)


RELAYING = """
import asyncio, sys
from sqlalchemy.ext.asyncio import create_async_engine
from seawall.messaging.connect import open_transport
from seawall.messaging.relay import Relay, RelayConfig

async def main(database, broker):
    config = RelayConfig(batch=20, claim=0.5)
    async with Relay(create_async_engine(database), open_transport(broker), config=config,
                     observer=lambda fact: print(fact, flush=True)):
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_kill_9_of_relays_loses_nothing(
    engine: AsyncEngine, valkey: RespServer, unique: str
) -> None:
    names = [str(n) for n in range(1_000)]
    async with AsyncSession(engine) as session, session.begin():
        for name in names:
            await outbox.write(session, unique, message(name, f"k{int(name) % 5}"))
    url = engine.url.render_as_string(hide_password=False)
    for _ in range(4):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", RELAYING, url, valkey.url), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(5):
            assert b"Relayed" in await process.stdout.readline()
        process.kill()
        await process.wait()
    transport = open_transport(valkey.url)
    async with Relay(engine, transport, config=RelayConfig(sweep=0.05)):
        async with asyncio.timeout(15):
            while await rows(engine):
                await SYSTEM.sleep(0.02)
    sub = Subscription(unique, "g")
    seen: list[Message] = []
    while found := await transport.fetch(sub, 500, wait=0.1, lease=60):
        seen += [delivery.message for delivery in found]
    await transport.aclose()
    assert {m.id for m in seen} == set(names)
    assert len(seen) <= 1_000 + 4 * 20  # at most one batch twice for each kill
    for key in range(5):
        first_seen = list(dict.fromkeys(int(m.id) for m in seen if m.key == f"k{key}"))
        assert first_seen == sorted(first_seen)
