"""A gateway takes another configuration under load: nothing is lost, and nothing forgotten."""

import asyncio
from dataclasses import replace

import pytest

from seawall.errors import Misconfigured
from seawall.gateway.actions import Respond
from seawall.gateway.admin import admin
from seawall.gateway.changes import Changes
from seawall.gateway.config import Edge, GatewayConfig, Route, Upstreams
from seawall.gateway.filter_config import FilterConfig
from seawall.gateway.gateway import Gateway
from seawall.gateway.limits import Limit, LimitBy
from seawall.resilience.breaker import Breaker, BreakerConfig, State
from seawall.topology import Address
from tests.integration.gateway.rig import OK, Client, Received, Reply, Service, get, rig, saying
from tests.integration.gateway.test_changes import Load
from tests.support.waiting import eventually


def instance_breaker(gateway: Gateway, service: str) -> Breaker:
    (found,) = [one for one in gateway.cluster_list() if one.service == service]
    return found.endpoints[0].breaker


async def test_changes_of_every_kind_under_load_lose_nothing_and_forget_nothing() -> None:
    """100 times a route, 100 times an instance, and 20 reloads change what holds for all."""
    services = [Service(instance_id=f"shop-{number}") for number in range(3)]
    dead = Service(name="dead", instance_id="dead-1", script=saying(b"", close=True))
    breaker = BreakerConfig(consecutive_failures=3, open_for=60.0)
    limit = Limit(rate=0.001, burst=5, by=LimitBy.ROUTE)
    fixed = (
        Route(service="shop"),
        Route(service="shop", path="/limited", limits=(limit,)),
        Route(service="dead", path="/dead"),
    )

    def configured(*more: Route, turn: int = 0) -> GatewayConfig:
        return GatewayConfig(
            routes=(*fixed, *more),
            upstreams=Upstreams(instance_breaker=breaker, max_connections=200 + turn),
            edge=Edge(half_close=0.2, idle_timeout=60.0 + turn),
            drain=0.3,
            lame_duck=0.05,
        )

    async with rig(*services, dead) as shop:
        gateway = shop.gateway
        gateway.apply(configured())
        for _ in range(5):
            assert (await shop.get("/limited")).status == 200
        for _ in range(10):
            await shop.get("/dead")
        broken = instance_breaker(gateway, "dead")
        assert broken.state is State.OPEN
        async with Load(shop.address.host, shop.address.port) as load:

            async def some_pass() -> None:
                seen = len(load.answers)
                await eventually(lambda: len(load.answers) > seen + 3)

            for turn in range(100):
                gateway.apply(configured(Route(service="shop", path=f"/more/{turn}")))
                shown = [one.instance for i, one in enumerate(services) if i != turn % 3]
                shop.source.show(dead.instance, *shown)
                await some_pass()
            shop.source.show(*(one.instance for one in (dead, *services)))
            await some_pass()
            before = sum(one.connections for one in services)
            for turn in range(20):
                gateway.apply(configured(turn=turn))
                await some_pass()
            opened = sum(one.connections for one in services) - before
        assert (load.lost, set(load.answers)) == (0, {200})
        assert opened <= len(services) * 8, "reloads keep the connections to instances"
        assert (await shop.get("/limited")).status == 429
        assert (await shop.get("/dead")).status == 503
        assert instance_breaker(gateway, "dead") is broken
        counted = {one.label: one for one in gateway.proxy.metrics.routes}
        assert sum(sum(one.buckets) for one in counted["/limited"].series.values()) == 6
        assert set(counted) == {"/", "/limited", "/dead"}


async def test_a_request_under_way_keeps_the_route_that_it_began_on() -> None:
    finish = asyncio.Event()

    async def late(request: Received) -> None:
        await finish.wait()
        request.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")

    async with rig(Service(late)) as shop:
        client = await shop.connect()
        await client.send(get())
        await eventually(lambda: bool(shop.services[0].received))
        config = replace(shop.gateway.config, routes=(Route(respond=Respond()),))
        told = shop.gateway.apply(config)
        assert [one.name for one in told.changed] == ["/"]
        assert (await shop.get()).body == b""
        finish.set()
        assert (await client.reply()).body == b"late"
        await eventually(lambda: shop.services[0].open == 0)  # no route leads there any more
        assert shop.gateway.cluster_list() == ()


async def test_what_is_wrong_changes_nothing() -> None:
    async with rig(Service()) as shop:
        config, before = shop.gateway.config, shop.gateway.revision
        for wrong in (
            Route(service="shop", auth="nobody"),
            Route(service="new", limits=(Limit(rate=1, shared=True),)),
            Route(service="new", filters=(FilterConfig(use="no.such:filter"),)),
        ):
            for change in (shop.gateway.preview, shop.gateway.apply):
                with pytest.raises(Misconfigured):
                    change(replace(config, routes=(wrong,)))
            assert (await shop.get()).status == 200
        assert shop.gateway.revision == before
        assert not shop.gateway.counters.rules()
        assert [one.service for one in shop.gateway.cluster_list()] == ["shop"]


async def test_a_preview_tells_and_does_not_touch() -> None:
    async with rig(Service()) as shop:
        wanted = replace(
            shop.gateway.config, routes=(Route(service="shop", path="/new"),), name="b", drain=0.2
        )
        told = shop.gateway.preview(wanted)
        assert (told.added, told.removed) == (("/new",), ("/",))
        assert [one.path for one in told.settings] == ["drain"]
        assert [one.path for one in told.needs_restart] == ["name"]
        assert (await shop.get()).status == 200
        assert shop.gateway.apply(wanted) == told
        assert shop.gateway.revision == told.after
        assert (await shop.get()).status == 404
        assert not shop.gateway.preview(wanted)


async def test_a_bulkhead_of_a_route_that_stays_counts_on() -> None:
    finish = asyncio.Event()

    async def late(request: Received) -> None:
        await finish.wait()
        request.writer.write(OK)

    route = Route(service="shop", max_requests=1)
    async with rig(Service(late), routes=(route,)) as shop:
        client = await shop.connect()
        await client.send(get())
        await eventually(lambda: bool(shop.services[0].received))
        more = Route(service="shop", path="/more")
        shop.gateway.apply(replace(shop.gateway.config, routes=(route, more)))
        assert (await shop.get()).status == 503
        finish.set()
        assert (await client.reply()).status == 200


async def test_new_settings_of_a_service_hold_for_its_instances_at_once() -> None:
    async with rig(Service()) as shop:
        assert (await shop.get()).status == 200
        (cluster,) = shop.gateway.cluster_list()
        (endpoint,) = cluster.endpoints
        config = shop.gateway.config
        changed = replace(config.upstreams, max_connections=7, max_requests=9)
        shop.gateway.apply(replace(config, services={"shop": changed}))
        (after,) = shop.gateway.cluster_list()
        assert after.endpoints == (endpoint,)
        assert (endpoint.limit, after.max_requests) == (7, 9)
        assert after.breaker is cluster.breaker
        assert (await shop.get()).status == 200
        assert shop.services[0].connections == 1


async def test_operators_act_by_post() -> None:
    asked: list[bool] = []

    async def reload(dry_run: bool) -> Changes:
        asked.append(dry_run)
        if len(asked) > 2:
            raise Misconfigured("no such service", fix="orders")
        wanted = replace(shop.gateway.config, routes=())
        return shop.gateway.preview(wanted) if dry_run else shop.gateway.apply(wanted)

    async def ask(method: str, path: str, *fields: str) -> Reply:
        client = Client(*await asyncio.open_connection(where.host, where.port))
        await client.send(get(path, *fields, method=method))
        try:
            return await client.reply()
        finally:
            client.close()

    async with (
        rig(Service()) as shop,
        admin(shop.gateway, Address("127.0.0.1", 0), reload=reload) as where,
    ):
        before = shop.gateway.revision
        told = (await ask("POST", "/reload?dry_run=1")).json()
        assert (told["dry_run"], told["revision"]) == (True, before)
        assert told["changes"]["routes"]["removed"] == ["/"]
        assert (await ask("POST", "/reload")).json()["revision"] != before
        refused = await ask("POST", "/reload")
        assert (refused.status, refused.json()["fix"]) == (400, "orders")
        assert asked == [True, False, False]
        assert (await ask("POST", "/drain")).json() == {"draining": True}
        assert (await ask("GET", "/readyz")).status == 503
        assert (await shop.get()).field("connection") == "close"
        assert (await ask("POST", "/undrain")).json() == {"draining": False}
        ready = await ask("GET", "/readyz")
        assert ready.body.decode() == f"ready\nrevision {shop.gateway.revision}\n"
        assert (await ask("GET", "/config")).json()["revision"] == shop.gateway.revision
        for method, path, allow in (
            ("GET", "/drain", "POST"),
            ("POST", "/config", "GET, HEAD"),
            ("DELETE", "/reload", "POST"),
        ):
            reply = await ask(method, path)
            assert (reply.status, reply.field("allow")) == (405, allow)
        assert (await ask("POST", "/nothing")).status == 404
        assert (await ask("POST", "/drain", "origin: http://evil.example")).status == 403
        assert (await ask("POST", "/drain", "content-length: 2")).status == 400


async def test_a_gateway_that_reads_no_spec_says_so() -> None:
    async with rig(Service()) as shop, admin(shop.gateway, Address("127.0.0.1", 0)) as where:
        client = Client(*await asyncio.open_connection(where.host, where.port))
        await client.send(get("/reload", method="POST"))
        assert (await client.reply()).status == 501
        client.close()
