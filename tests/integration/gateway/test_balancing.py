"""Who is asked, with real connections: shares, stickiness, ejection, checks, zones."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest

from seawall.gateway.admin import metrics_text, upstreams
from seawall.gateway.balance import HealthCheck, Sticky
from seawall.gateway.clusters import HealthChanged
from seawall.gateway.config import GatewayConfig, Route, Timeouts, Upstreams
from seawall.gateway.gateway import Gateway, Static
from seawall.resilience.balancing import Balancing
from seawall.resilience.locality import LocalityConfig
from seawall.resilience.outlier import Ejected, OutlierConfig
from seawall.resilience.slow_start import SlowStart
from seawall.topology import Address, Instance
from tests.integration.gateway.rig import (
    OK,
    Client,
    Received,
    Reply,
    Rig,
    Service,
    get,
    rig,
    saying,
)
from tests.support.waiting import eventually

BROKEN = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"


@dataclass
class Placed(Service):
    """A service that says where it runs, and what it weighs."""

    zone: str = ""
    priority: int = 0
    weight: int = 100

    @property
    def instance(self) -> Instance:
        base = Service.instance.fget(self)  # type: ignore[attr-defined]
        return replace(base, zone=self.zone, priority=self.priority, weight=self.weight)


def three() -> list[Service]:
    return [Service(instance_id=f"shop-{number}") for number in range(1, 4)]


async def asked(shop: Rig, times: int, *fields: str) -> list[Reply]:
    """The answers to so many requests, one after the other on one connection."""
    client = await shop.connect()
    replies = []
    for _ in range(times):
        await client.send(get("/", *fields))
        replies.append(await client.reply())
    return replies


def counts(shop: Rig) -> list[int]:
    return [len(service.received) for service in shop.services]


@pytest.mark.parametrize("kind", [kind for kind in Balancing if kind.value != "consistent-hash"])
async def test_each_balancer_asks_all(kind: Balancing) -> None:
    async with rig(*three(), upstreams=Upstreams(balancing=kind)) as shop:
        replies = await asked(shop, 90)
        assert {reply.status for reply in replies} == {200}
        # By latency one at a time goes to the fastest, once each has been heard.
        assert min(counts(shop)) >= (1 if kind is Balancing.PEAK_EWMA else 15)


async def test_weights_are_kept() -> None:
    services = [
        Placed(instance_id="shop-1", weight=100),
        Placed(instance_id="shop-2", weight=50),
        Placed(instance_id="shop-3", weight=0),
    ]
    async with rig(*services, upstreams=Upstreams(balancing=Balancing.WEIGHTED)) as shop:
        await asked(shop, 90)
        assert counts(shop) == [60, 30, 0]


async def test_a_newcomer_gets_its_share_little_by_little() -> None:
    services = three()
    slowly = Upstreams(slow_start=SlowStart(window=600.0), balancing=Balancing.WEIGHTED)
    async with rig(*services, upstreams=slowly) as shop:
        shop.source.show(*(service.instance for service in services[:2]))
        shop.source.show(*(service.instance for service in services))
        await asked(shop, 210)
        # A tenth of the weight of each of the others, which were there from the beginning.
        assert counts(shop)[2] == 10
        assert upstreams(shop.gateway, 0.0)[2].count('"slow_start_weight": 10.0') == 1


async def test_peak_ewma_leaves_the_slow_one() -> None:
    async def slow(request: Received) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, request.writer.write, OK)

    services = [*three()[:2], Service(slow, instance_id="shop-3")]
    async with rig(*services, upstreams=Upstreams(balancing=Balancing.PEAK_EWMA)) as shop:
        await asked(shop, 60)
        assert len(services[2].received) <= 5
        assert min(counts(shop)[:2]) > 10
        ewma = shop.gateway.cluster_list()[0].picker.ewma
        assert ewma is not None
        endpoints = shop.gateway.cluster_list()[0].endpoints
        assert ewma.cost(endpoints[2]) > ewma.cost(endpoints[0])


HASH_ON = {
    "header:x-tenant": ("/", "x-tenant: {}"),
    "cookie:cart": ("/", "cookie: other=1; cart={}"),
    "query:q": ("/?p=1&q={}", "x-nothing: 1"),
    "path": ("/{}", "x-nothing: 1"),
}


@pytest.mark.parametrize("hash_on", HASH_ON)
async def test_a_key_has_one_home_through_two_gateways(hash_on: str) -> None:
    path, field = HASH_ON[hash_on]
    how = Upstreams(balancing=Balancing.CONSISTENT_HASH, hash_on=hash_on)
    # Where the machine stands still while a connection is opened, another instance would be tried.
    routes = (Route(service="shop", timeouts=Timeouts(connect=0.0)),)
    services = three()
    async with rig(*services, upstreams=how, routes=routes) as shop, AsyncExitStack() as stack:
        config = GatewayConfig(routes=routes, services={"shop": how}, drain=0.1, lame_duck=0.0)
        source = Static(*(service.instance for service in reversed(services)))
        second = await stack.enter_async_context(
            Gateway(config, source).serving(Address("127.0.0.1", 0))
        )
        homes: list[Counter[str]] = []
        for number in range(20):
            before = counts(shop)
            for address in (shop.address, second, shop.address):
                client = Client(*await asyncio.open_connection(address.host, address.port))
                await client.send(get(path.format(number), field.format(number)))
                assert (await client.reply()).status == 200
                client.close()
            grown = zip(services, counts(shop), before, strict=True)
            homes.append(Counter({one.instance_id: now - was for one, now, was in grown}))
        strays = [home for home in homes if sorted(home.values()) != [0, 0, 3]]
        told = [
            (line["instance"], line["attempts"], line["flags"]) for line in await shop.logged(40)
        ]
        assert not strays, (homes, told)
        assert len({home.most_common(1)[0][0] for home in homes}) == 3


def cookie(reply: Reply) -> str:
    """What the client sends back."""
    return (reply.field("set-cookie") or "").partition(";")[0]


async def test_a_cookie_keeps_a_client_at_its_instance() -> None:
    how = Upstreams(sticky=Sticky(ttl=60.0), balancing=Balancing.ROUND_ROBIN)
    services = three()
    async with rig(*services, upstreams=how) as shop:
        (first,) = await asked(shop, 1)
        said = first.field("set-cookie") or ""
        assert said.startswith("seawall-instance=")
        assert said.endswith("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax")
        assert "shop-" not in said
        assert "127.0.0.1" not in said
        home = next(service for service in services if service.received)
        replies = await asked(shop, 20, f"cookie: a=b; {cookie(first)}")
        assert {reply.field("set-cookie") for reply in replies} == {None}
        assert len(home.received) == 21

        # It leaves: another one, and another cookie, which holds from then on.
        shop.source.show(*(one.instance for one in services if one is not home))
        (moved,) = await asked(shop, 1, f"cookie: {cookie(first)}")
        assert cookie(moved) not in ("", cookie(first))
        (again,) = await asked(shop, 1, f"cookie: {cookie(moved)}")
        assert again.field("set-cookie") is None
        assert len(home.received) == 21

        # Somebody new changes nothing, nor does its return.
        shop.source.show(*(one.instance for one in services))
        (still,) = await asked(shop, 1, f"cookie: {cookie(moved)}")
        assert still.field("set-cookie") is None


async def test_a_cookie_of_a_dead_instance_is_replaced_in_the_same_answer() -> None:
    services = three()
    async with rig(*services, upstreams=Upstreams(sticky=Sticky())) as shop:
        (first,) = await asked(shop, 1)
        home = next(service for service in services if service.received)
        await home.kill()
        (moved,) = await asked(shop, 1, f"cookie: {cookie(first)}")
        assert moved.status == 200
        assert len([1 for name, _ in moved.fields if name == "set-cookie"]) == 1
        assert cookie(moved) != cookie(first)


async def test_a_bad_instance_of_three_is_left_out_and_comes_back() -> None:
    services = three()
    services[2].script = saying(BROKEN)
    how = Upstreams(
        outliers=OutlierConfig(consecutive_failures=3, eject_for=0.5),
        balancing=Balancing.ROUND_ROBIN,
    )
    async with rig(*services, upstreams=how) as shop:
        replies = await asked(shop, 30)
        assert Counter(reply.status for reply in replies) == {200: 27, 500: 3}
        assert [fact.key for fact in shop.facts if isinstance(fact, Ejected)] == ["shop/shop-3/1"]
        seen = upstreams(shop.gateway, 0.0)[2]
        assert seen.count('"ejected": true') == 1
        assert "seawall_gateway_ejections_total" in metrics_text(shop.gateway, 0.0)[2]
        services[2].script = saying(OK)
        cluster = shop.gateway.cluster_list()[0]
        await eventually(lambda: not cluster.ejected)
        # Its breaker saw three failures too, which are fewer than open it.
        await asked(shop, 6)
        assert len(services[2].received) == 5


async def test_checks_find_an_instance_that_hangs_and_bring_it_back() -> None:
    hanging = asyncio.Event()

    async def may_hang(request: Received) -> None:
        if not hanging.is_set():
            request.writer.write(OK)

    services = [*three()[:2], Service(may_hang, instance_id="shop-3")]
    check = HealthCheck(path="/live", interval=0.15, timeout=0.1, unhealthy=2, healthy=2)
    async with rig(*services, upstreams=Upstreams(health=check)) as shop:
        await eventually(lambda: all(service.received for service in services))
        assert all(one.line == b"GET /live HTTP/1.1" for one in services[2].received)
        hanging.set()
        changes: list[HealthChanged] = []

        def changed(count: int) -> bool:
            changes[:] = [fact for fact in shop.facts if isinstance(fact, HealthChanged)]
            return len(changes) == count

        await eventually(lambda: changed(1))
        assert (changes[0].key, changes[0].healthy) == ("shop/shop-3/1", False)
        assert changes[0].reason == "no answer within 0.1 s"
        replies = await asked(shop, 30)
        assert {reply.status for reply in replies} == {200}
        assert not any(one.line == b"GET / HTTP/1.1" for one in services[2].received)
        assert upstreams(shop.gateway, 0.0)[2].count('"health": "unhealthy"') == 1
        hanging.clear()
        await eventually(lambda: changed(2))
        assert changes[1].healthy
        await asked(shop, 30)
        assert any(one.line == b"GET / HTTP/1.1" for one in services[2].received)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(BROKEN, "status 500"), (b"what?\r\n\r\n", "status 0")],
    ids=["500", "no-http"],
)
async def test_a_check_wants_the_status_that_it_expects(answer: bytes, reason: str) -> None:
    check = HealthCheck(interval=0.1, timeout=0.1, unhealthy=1)
    async with rig(
        Service(saying(answer)), Service(instance_id="shop-2"), upstreams=Upstreams(health=check)
    ) as shop:
        await eventually(lambda: any(isinstance(fact, HealthChanged) for fact in shop.facts))
        (fact,) = [fact for fact in shop.facts if isinstance(fact, HealthChanged)]
        assert (fact.key, fact.reason) == ("shop/shop-1/1", reason)


async def test_a_zone_is_preferred_and_left_when_it_dies() -> None:
    services = [
        Placed(instance_id="shop-1", zone="a"),
        Placed(instance_id="shop-2", zone="b"),
        Placed(instance_id="shop-3", zone="b"),
    ]
    how = Upstreams(
        locality=LocalityConfig(zone="b", min_instances=2),
        outliers=OutlierConfig(eject_for=60.0),
        retry_floor=100.0,  # each request may find out anew
    )
    async with rig(*services, upstreams=how) as shop:
        await asked(shop, 30)
        assert counts(shop)[0] == 0
        await services[1].kill()
        await services[2].kill()
        replies = await asked(shop, 10)
        assert {reply.status for reply in replies} == {200}
        assert counts(shop)[0] == 10
        seen = upstreams(shop.gateway, 0.0)[2]
        assert '"zone": "a"' in seen
