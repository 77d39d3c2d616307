"""Several gateways that keep one limit by way of a real Valkey, which is killed and comes back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from seawall.clock import SYSTEM
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured
from seawall.gateway.admin import limits as limits_page
from seawall.gateway.admin import metrics_text
from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.gateway import Gateway, Static
from seawall.gateway.leases import LEASE, LimitsAway, LimitsBack
from seawall.gateway.ledger_valkey import ValkeyLedger
from seawall.gateway.limits import Limit, LimitBy
from seawall.resilience.limiter import MAX_KEYS
from seawall.resilience.sharing import MAX_HOT, SharedLimiter, WhenAway
from seawall.topology import Address
from tests.integration.gateway.rig import Client, Service, get
from tests.support import servers
from tests.support.servers import RespServer
from tests.support.waiting import eventually, settle


@dataclass
class One:
    """One of the gateways, and a client that asks it again and again."""

    gateway: Gateway
    client: Client
    facts: list[object] = field(default_factory=list)
    answers: dict[int, int] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)  # when requests passed

    async def ask(self) -> int:
        await self.client.send(get())
        status = (await self.client.reply()).status
        self.answers[status] = self.answers.get(status, 0) + 1
        if status == 200:
            self.at.append(SYSTEM.now())
        return status

    async def keep_asking(self) -> None:
        while True:
            await self.ask()

    @property
    def limiter(self) -> SharedLimiter:
        (rule,) = self.gateway.counters.rules()
        assert isinstance(rule.limiter, SharedLimiter)
        return rule.limiter

    def share(self) -> float:
        return self.limiter.share("", SYSTEM.now())

    def told(self, kind: type) -> bool:
        return any(isinstance(fact, kind) for fact in self.facts)


@asynccontextmanager
async def gateways(
    number: int, limit: Limit, url: str, namespace: str, *, replicas: int = 1
) -> AsyncIterator[list[One]]:
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(Service())
        found: list[One] = []
        for serial in range(number):
            ledger = ValkeyLedger(url, namespace=namespace)
            stack.push_async_callback(ledger.aclose)
            config = GatewayConfig(
                routes=(Route(service="shop", limits=(limit,)),),
                name=f"gateway-{serial}",
                replicas=replicas,
                drain=0.3,
                lame_duck=0.05,
            )
            facts: list[object] = []
            gateway = Gateway(
                config, Static(service.instance), ledger=ledger, observer=facts.append
            )
            address = await stack.enter_async_context(gateway.serving(Address("127.0.0.1", 0)))
            client = Client(*await asyncio.open_connection(address.host, address.port))
            stack.callback(client.close)
            found.append(One(gateway, client, facts))
        yield found


@pytest.fixture
def server() -> Iterator[RespServer]:
    """A Valkey of this test's own, to be killed."""
    found = servers.valkey()
    yield found
    found.stop()


def passed(ones: list[One]) -> int:
    return sum(len(one.at) for one in ones)


async def test_gateways_admit_together_what_one_would(valkey: RespServer, unique: str) -> None:
    rate, burst = 200.0, 20
    limit = Limit(rate=rate, burst=burst, by=LimitBy.ROUTE, shared=True)
    async with gateways(3, limit, valkey.url, unique, replicas=3) as ones, Tasks() as tasks:
        for one in ones:
            tasks.start(one.keep_asking())
        await eventually(lambda: passed(ones) >= 800, within=20.0)
        times = sorted(at for one in ones for at in one.at)
        # In any interval: the burst, the rate, and for what is on the wire a little.
        for first in range(0, len(times), 25):
            for last in range(first + 24, len(times), 25):
                seconds = times[last] - times[first]
                assert last - first + 1 <= burst + rate * (seconds + 0.1)
        assert all(one.limiter.processes == 3 for one in ones)
        # Not only little enough: all of it is lent to somebody, but for what has just been asked
        # for by one and not yet given by another.
        await eventually(lambda: rate * 0.99 <= sum(one.share() for one in ones) <= rate * 1.001)


async def test_a_busy_gateway_gets_what_an_idle_one_leaves(valkey: RespServer, unique: str) -> None:
    limit = Limit(rate=100, burst=4, by=LimitBy.ROUTE, shared=True)
    async with gateways(2, limit, valkey.url, unique) as (busy, idle), Tasks() as tasks:
        tasks.start(busy.keep_asking())
        await eventually(lambda: busy.share() > 90 and idle.share() == pytest.approx(5.0))
        asking = tasks.start(idle.keep_asking())
        await eventually(lambda: idle.share() > 40 and busy.share() < 60)
        asking.cancel()
        await eventually(lambda: busy.share() > 90)


@pytest.mark.parametrize(
    ("when_away", "then"),
    [(WhenAway.LOCAL, {200, 429}), (WhenAway.OPEN, {200}), (WhenAway.CLOSED, {503})],
)
async def test_without_its_server_a_limit_does_what_was_chosen(
    server: RespServer, unique: str, when_away: WhenAway, then: set[int]
) -> None:
    limit = Limit(rate=100, burst=10, by=LimitBy.ROUTE, shared=True, when_away=when_away)
    async with gateways(2, limit, server.url, unique) as ones, Tasks() as tasks:
        await eventually(lambda: all(one.limiter.processes == 2 for one in ones))
        for one in ones:
            tasks.start(one.keep_asking())
        await eventually(lambda: all(one.share() > 40 for one in ones))
        server.kill()
        await eventually(lambda: all(one.told(LimitsAway) for one in ones), within=2 * LEASE + 2)
        assert "seawall_gateway_limits_away 1" in metrics_text(ones[0].gateway, 0.0)[2]
        for one in ones:
            one.answers.clear()
            one.at.clear()

        def answers() -> set[int]:
            return {status for one in ones for status in one.answers}

        # A hundred requests may take less time than a token.
        enough = 100
        await eventually(
            lambda: all(sum(one.answers.values()) > enough for one in ones) and answers() >= then
        )
        assert answers() == then
        # Each by itself: half of the rate, for there were two.
        assert all(one.share() == 50.0 for one in ones)
        server.start()
        await eventually(lambda: all(one.told(LimitsBack) for one in ones), within=10.0)
        await eventually(lambda: all(40 < one.share() < 60 for one in ones))
        assert not any(one.limiter.is_away(SYSTEM.now()) for one in ones)
        for one in ones:
            one.answers.clear()
        await eventually(lambda: all(one.answers.get(429, 0) > 0 for one in ones))
        assert all(503 not in one.answers for one in ones)


async def test_a_gateway_starts_without_the_server_and_finds_it_later(
    server: RespServer, unique: str
) -> None:
    server.kill()
    limit = Limit(rate=1, burst=4, by=LimitBy.ROUTE, shared=True, when_away=WhenAway.CLOSED)
    async with gateways(1, limit, server.url, unique, replicas=2) as (one,):
        assert await one.ask() == 503
        assert one.told(LimitsAway)
        server.start()
        await eventually(lambda: one.told(LimitsBack), within=10.0)
        assert [await one.ask() for _ in range(3)] == [200, 200, 429]


async def test_a_server_that_stands_still_is_away_too(server: RespServer, unique: str) -> None:
    limit = Limit(rate=1, burst=2, by=LimitBy.ROUTE, shared=True)
    async with gateways(1, limit, server.url, unique) as (one,):
        server.pause()
        try:
            await eventually(lambda: one.told(LimitsAway), within=3 * LEASE)
            assert await one.ask() == 200
        finally:
            server.resume()
        await eventually(lambda: one.told(LimitsBack), within=3 * LEASE)


async def test_a_gateway_that_leaves_is_counted_no_longer(valkey: RespServer, unique: str) -> None:
    limit = Limit(rate=1, burst=10, by=LimitBy.ROUTE, shared=True)
    async with gateways(1, limit, valkey.url, unique) as (stays,):
        async with gateways(1, limit, valkey.url, unique):
            await eventually(lambda: stays.limiter.processes == 2)
        await eventually(lambda: stays.limiter.processes == 1)


async def test_keys_are_bounded_under_a_hundred_thousand_addresses(
    valkey: RespServer, unique: str
) -> None:
    limit = Limit(rate=10, burst=2, by=LimitBy.ADDRESS, shared=True)
    async with gateways(1, limit, valkey.url, unique) as (one,):
        limiter = one.limiter
        for number in range(100_000):
            for _ in range(2):
                limiter.acquire(f"10.{number >> 16}.{(number >> 8) & 255}.{number & 255}", 0.0)
            if number % 10_000 == 0:
                await settle()  # the claims go on meanwhile
        assert limiter.hot <= MAX_HOT
        assert len(limiter) <= MAX_KEYS + MAX_HOT
        assert limiter.unlent > 0
        await eventually(lambda: not one.gateway.leases.is_away)
        assert await one.ask() == 200
    ledger = ValkeyLedger(valkey.url, namespace=unique)
    assert (await ledger.claim("after", [], 1.0)).processes == 1
    await ledger.aclose()


async def test_operators_see_what_is_counted(valkey: RespServer, unique: str) -> None:
    limit = Limit(rate=1, burst=2, by=LimitBy.ROUTE, shared=True)
    async with gateways(1, limit, valkey.url, unique) as (one,):
        assert [await one.ask() for _ in range(3)] == [200, 200, 429]
        status, kind, body = limits_page(one.gateway, SYSTEM.now())
        assert (status, kind) == (200, "application/json")
        for part in ('"name": "route"', '"refused": 1', '"hot": 1', '"away": false'):
            assert part in body
        text = metrics_text(one.gateway, SYSTEM.now())[2]
        assert 'seawall_gateway_limited_total{limit="route",where="/"} 1' in text
        assert "seawall_gateway_limits_away 0" in text


def test_a_shared_limit_needs_somebody_to_share_it_by() -> None:
    limit = Limit(rate=1, shared=True)
    with pytest.raises(Misconfigured, match="there is no ledger"):
        Gateway(GatewayConfig(routes=(Route(service="shop", limits=(limit,)),)), Static())
