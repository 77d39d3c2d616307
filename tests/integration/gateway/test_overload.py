"""Too much to do: who is let in, who is told to come later, and what is given instead."""

import asyncio

import pytest

from seawall.clock import SYSTEM
from seawall.gateway.admin import admin
from seawall.gateway.config import Route, Timeouts, Upstreams
from seawall.gateway.fallback import Fallback
from seawall.gateway.retrying import Retry
from seawall.resilience.admission import Adaptive
from seawall.resilience.breaker import BreakerConfig, State
from seawall.resilience.shed import Importance
from seawall.topology import Address
from tests.integration.gateway.rig import (
    Client,
    Received,
    Reply,
    Rig,
    Service,
    get,
    post,
    rig,
    saying,
)
from tests.support.waiting import eventually

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BROKEN = b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n"
CLASSES = tuple(Route(service="shop", path=f"/{one.value}", importance=one) for one in Importance)


async def hang(request: Received) -> None:
    await request.reader.read()


async def started(shop: Rig, path: str, *fields: str) -> Client:
    """A request that has come to the service, and stays there."""
    before = len(shop.services[0].received)
    client = await shop.connect()
    await client.send(get(path, *fields))
    await eventually(lambda: len(shop.services[0].received) == before + 1)
    return client


# who is let in


async def test_the_least_important_are_refused_first() -> None:
    config = Upstreams(adaptive=Adaptive(kind="fixed", initial=10))
    async with rig(Service(hang), routes=CLASSES, upstreams=config) as shop:
        for path in ("/critical",) * 4 + ("/normal",) * 5:
            await started(shop, path)
        await started(shop, "/sheddable")  # its share, whatever the others do
        reply = await shop.get("/sheddable")
        assert (reply.status, reply.json()["reason"]) == (503, "OM")
        assert reply.json()["retryable"] is True
        assert reply.field("retry-after") == "1"
        assert (await shop.get("/normal")).status == 503
        await started(shop, "/critical")
        assert (await shop.logged(2))[0]["flags"] == "OM"
        admission = shop.gateway.cluster_list()[0].admission
        assert admission is not None
        assert admission.shed() == {"critical": 0, "normal": 1, "sheddable": 1}
        assert [one.taken for one in admission.snapshot()] == [5, 5, 1]
        for client in shop.clients:
            client.writer.transport.abort()
        await eventually(lambda: all(not one.taken for one in admission.snapshot()))


@pytest.mark.parametrize("trusted", [True, False])
async def test_only_a_trusted_proxy_says_how_important_a_request_is(trusted: bool) -> None:
    config = Upstreams(adaptive=Adaptive(kind="fixed", initial=1))
    networks = ("127.0.0.0/8",) if trusted else ()
    async with rig(
        Service(hang), routes=CLASSES, upstreams=config, trusted_proxies=networks
    ) as shop:
        await started(shop, "/normal")
        client = await shop.connect()
        await client.send(get("/normal", "x-importance: critical"))
        if trusted:
            await eventually(lambda: len(shop.services[0].received) == 2)
        else:
            assert (await client.reply()).status == 503
        told = [one.field("x-importance") for one in shop.services[0].received]
        assert told == ([None, "critical"] if trusted else [None])


@pytest.mark.parametrize("marked", [True, False])
async def test_a_service_that_refuses_since_it_has_enough_to_do_is_well(marked: bool) -> None:
    mark = b"x-load-shed: full\r\n" if marked else b""
    refusal = b"HTTP/1.1 503 Later\r\nretry-after: 1\r\n" + mark + b"content-length: 0\r\n\r\n"
    async with rig(Service(saying(refusal)), routes=CLASSES) as shop:
        for _ in range(30):
            assert (await shop.get("/normal")).status == 503
        # A service that fails is soon not asked any more.
        assert (len(shop.services[0].received) == 30) == marked


async def test_a_service_hears_how_important_a_request_is() -> None:
    async with rig(Service(), routes=CLASSES) as shop:
        for one in Importance:
            await shop.get(f"/{one.value}", "x-importance: critical")
        told = [one.field("x-importance") for one in shop.services[0].received]
        assert told == ["critical", None, "sheddable"]


async def test_a_limit_shrinks_under_a_service_that_does_not_keep_up() -> None:
    adaptive = Adaptive(kind="aimd", initial=40, minimum=2, maximum=40, window=0.1)
    never_open = BreakerConfig(consecutive_failures=100_000, failure_rate=None)
    config = Upstreams(adaptive=adaptive, breaker=never_open, instance_breaker=never_open)
    routes = tuple(
        Route(service="shop", path=r.path, importance=r.importance, timeouts=Timeouts(total=0.2))
        for r in CLASSES
    )
    async with rig(Service(hang), routes=routes, upstreams=config) as shop:
        admission = shop.gateway.cluster_list()[0].admission
        assert admission is not None
        while admission.limit > 20:
            replies = await asyncio.gather(*(shop.get("/normal") for _ in range(15)))
            assert {reply.status for reply in replies} == {504}
        assert shop.is_at_rest()
        normal = [await shop.connect() for _ in range(18)]
        for client in normal:
            await client.send(get("/normal"))
        replies = await asyncio.gather(*(shop.get("/sheddable") for _ in range(9)))
        assert {reply.status for reply in replies} == {503, 504}
        await started(shop, "/critical")


async def test_a_stream_holds_no_place() -> None:
    async def streaming(request: Received) -> None:
        request.writer.write(STREAM)
        await hang(request)

    config = Upstreams(adaptive=Adaptive(kind="fixed", initial=1))
    async with rig(Service(streaming), upstreams=config) as shop:
        for _ in range(5):
            client = await shop.connect()
            await client.send(get())
            assert (await client.head()).status == 200
        admission = shop.gateway.cluster_list()[0].admission
        assert admission is not None
        assert all(not one.taken for one in admission.snapshot())


async def test_a_route_has_a_bulkhead_of_its_own() -> None:
    routes = (Route(service="shop"), Route(service="shop", path="/reports", max_requests=1))
    async with rig(Service(hang), routes=routes) as shop:
        first = await started(shop, "/reports")
        reply = await shop.get("/reports")
        assert (reply.status, reply.json()["reason"]) == (503, "UO")
        assert "/reports" in reply.json()["detail"]
        await started(shop, "/")
        first.writer.transport.abort()
        await shop.logged(2)
        await started(shop, "/reports")


async def test_the_admin_listener_says_who_is_let_in() -> None:
    config = Upstreams(adaptive=Adaptive(kind="fixed", initial=10))
    async with (
        rig(Service(), upstreams=config) as shop,
        admin(shop.gateway, Address("127.0.0.1", 0), clock=SYSTEM) as where,
    ):
        await shop.get()

        async def page(path: str) -> Reply:
            reader, writer = await asyncio.open_connection(where.host, where.port)
            client = Client(reader, writer)
            await client.send(get(path))
            reply = await client.reply()
            client.close()
            return reply

        (service,) = (await page("/upstreams")).json()
        assert service["hedges"] == 0
        assert service["adaptive"]["kind"] == "fixed"
        assert service["adaptive"]["limit"] == 10
        assert service["adaptive"]["critical"] == {"share": 5, "under_way": 0, "shed": 0}
        text = (await page("/metrics")).body.decode()
        assert 'seawall_gateway_concurrency_limit{service="shop",version="*"} 10' in text
        assert 'importance="sheddable"} 0' in text


async def test_answers_that_come_slowly_count_as_failures_if_that_is_configured() -> None:
    slow = BreakerConfig(consecutive_failures=3, slow_after=1e-9)
    async with rig(Service(), upstreams=Upstreams(breaker=slow)) as shop:
        assert [(await shop.get()).status for _ in range(4)] == [200, 200, 200, 503]
        assert shop.gateway.cluster_list()[0].breaker.state is State.OPEN


# fallbacks

EMPTY = Fallback(body="[]", headers={"cache-control": "no-store"})
SPARE = Fallback(service="spare")


def falling(fallback: Fallback, **timeouts: float) -> tuple[Route, ...]:
    retry = Retry(attempts=1)
    return (Route(service="shop", fallback=fallback, retry=retry, timeouts=Timeouts(**timeouts)),)


async def test_a_text_stands_in_where_there_is_no_instance() -> None:
    async with rig(Service(), routes=falling(EMPTY)) as shop:
        assert (await shop.get()).field("x-fallback") is None
        shop.source.show()
        client = await shop.connect()
        await client.send(get())
        reply = await client.reply()
        assert (reply.status, reply.body) == (200, b"[]")
        assert reply.field("x-fallback") == "UH"
        assert reply.field("content-type") == "application/json"
        assert reply.field("cache-control") == "no-store"
        await client.send(get(method="HEAD"))
        assert (await client.reply(to_head=True)).field("x-fallback") == "UH"
        await client.send(post(b"x"))
        assert (await client.reply()).body == b"[]"
        line = (await shop.logged(4))[1]
        assert (line["status"], line["flags"]) == (200, "UH")
        assert shop.gateway.proxy.metrics.fallbacks == {"shop": 3}


async def test_a_text_stands_in_for_a_service_that_is_broken_slow_or_left_alone() -> None:
    script = hang
    breaker = BreakerConfig(consecutive_failures=2)
    async with rig(
        Service(script), routes=falling(EMPTY, total=0.2), upstreams=Upstreams(breaker=breaker)
    ) as shop:
        shop.services[0].script = saying(b"", close=True)
        assert (await shop.get()).field("x-fallback") == "UC"
        shop.services[0].script = hang
        assert [(await shop.get()).field("x-fallback") for _ in range(3)] == ["UT", "UT", "UO"]
        assert shop.is_at_rest()
        await eventually(lambda: shop.services[0].open == 0)


async def test_only_what_is_listed_is_stood_in_for() -> None:
    routes = falling(Fallback(status=202, body="later", on=("500",)))
    async with rig(Service(saying(BROKEN)), routes=routes) as shop:
        reply = await shop.get()
        assert (reply.status, reply.body, reply.field("x-fallback")) == (202, b"later", "500")
        shop.source.show()
        assert (await shop.get()).status == 503
        breaker = shop.gateway.cluster_list()[0].breaker
        assert breaker.snapshot(shop.gateway.proxy.now()).bad == 1


async def test_another_service_stands_in() -> None:
    shop_, spare = Service(saying(b"", close=True)), Service(name="spare", instance_id="spare-1")
    async with rig(shop_, spare, routes=falling(SPARE)) as shop:
        reply = await shop.get("/list?all")
        assert (reply.status, reply.body, reply.field("x-fallback")) == (200, b"ok", "UC")
        assert spare.received[0].line == b"GET /list?all HTTP/1.1"
        line = (await shop.logged())[0]
        assert (line["status"], line["instance"], line["attempts"]) == (200, "spare-1", 2)
        # It is asked only what may be asked twice.
        reply = await shop.ask(post(b"x"))
        assert (reply.status, reply.field("x-fallback")) == (502, None)
        assert shop.is_at_rest()


async def test_a_service_that_stands_in_has_no_fallback() -> None:
    dead = saying(b"", close=True)
    spare = Service(dead, name="spare", instance_id="spare-1")
    async with rig(Service(dead), spare, routes=falling(SPARE)) as shop:
        reply = await shop.get()
        assert (reply.status, reply.json()["reason"]) == (502, "URX")
        assert len(spare.received) == 1
        shop.source.show(shop.services[0].instance)
        assert (await shop.get()).json()["reason"] == "UH"


async def test_a_client_that_leaves_while_another_service_stands_in() -> None:
    spare = Service(hang, name="spare", instance_id="spare-1")
    routes = falling(Fallback(service="spare", on=("500",)))
    async with rig(Service(saying(BROKEN)), spare, routes=routes) as shop:
        client = await shop.connect()
        await client.send(get())
        await eventually(lambda: len(spare.received) == 1)
        client.writer.transport.abort()
        await eventually(lambda: spare.open == 0)
        assert (await shop.logged())[0]["status"] == 499
        await eventually(shop.is_at_rest)


async def test_who_is_shed_gets_the_fallback_too() -> None:
    config = Upstreams(adaptive=Adaptive(kind="fixed", initial=1))
    routes = (Route(service="shop", importance=Importance.SHEDDABLE, fallback=EMPTY),)
    async with rig(Service(hang), routes=routes, upstreams=config) as shop:
        await started(shop, "/")
        assert (await shop.get()).field("x-fallback") == "OM"
