"""A second instance is asked while the first is awaited: who wins, and what is left behind."""

import asyncio

import pytest

from seawall.errors import Misconfigured
from seawall.gateway.balance import Sticky
from seawall.gateway.config import Route, Timeouts, Upstreams
from seawall.gateway.retrying import Retry
from seawall.resilience.hedge import HedgeConfig
from tests.integration.gateway.rig import OK, Received, Rig, Script, Service, get, post, rig
from tests.support.waiting import eventually

BAD = b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n"
USUAL = Retry()
SOON = HedgeConfig(after=0.05, floor=100.0)


def route(hedge: HedgeConfig = SOON, retry: Retry = USUAL, **timeouts: float) -> Route:
    return Route(service="shop", hedge=hedge, retry=retry, timeouts=Timeouts(**timeouts))


def pair(*scripts: Script) -> list[Service]:
    """Two instances. The first request that comes to either follows the first script, and so on;
    the last script goes on for ever."""
    left = list(scripts)

    async def script(request: Received) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request)

    return [Service(script, instance_id=f"shop-{number}") for number in (1, 2)]


async def hang(request: Received) -> None:
    await request.reader.read()


async def answer(request: Received) -> None:
    request.writer.write(OK)


async def close(request: Received) -> None:
    request.writer.close()


def hedges(shop: Rig) -> int:
    return shop.gateway.proxy.metrics.hedges.get("shop", 0)


def under_way(shop: Rig) -> int:
    return sum(endpoint.in_flight for endpoint in shop.gateway.cluster_list()[0].endpoints)


def received(shop: Rig) -> int:
    return sum(len(service.received) for service in shop.services)


async def test_the_first_answer_wins_and_the_other_try_is_cancelled() -> None:
    async with rig(*pair(hang, answer), routes=(route(),)) as shop:
        assert (await shop.get()).body == b"ok"
        assert hedges(shop) == 1
        await eventually(lambda: sum(service.open for service in shop.services) == 1)
        line = (await shop.logged())[0]
        winner = next(s for s in shop.services if s.open)
        assert (line["instance"], line["attempts"]) == (winner.instance_id, 2)
        now = shop.gateway.proxy.now()
        for endpoint in shop.gateway.cluster_list()[0].endpoints:
            assert endpoint.breaker.snapshot(now).bad == 0
        await eventually(shop.is_at_rest)


async def test_the_first_try_may_win_after_all() -> None:
    async def when_hedged(request: Received) -> None:
        await eventually(lambda: received(shop) == 2)
        request.writer.write(OK)

    async with rig(*pair(when_hedged, hang), routes=(route(),)) as shop:
        assert (await shop.get()).body == b"ok"
        await eventually(lambda: sum(service.open for service in shop.services) == 1)
        await eventually(shop.is_at_rest)


async def test_an_answer_in_time_needs_no_hedge() -> None:
    async with rig(*pair(answer), routes=(route(HedgeConfig(after=5.0)),)) as shop:
        for _ in range(10):
            assert (await shop.get()).status == 200
        assert (hedges(shop), received(shop)) == (0, 10)


async def test_a_client_that_leaves_ends_both() -> None:
    async with rig(*pair(hang), routes=(route(),)) as shop:
        client = await shop.connect()
        await client.send(get())
        await eventually(lambda: received(shop) == 2)
        client.writer.transport.abort()
        await eventually(lambda: sum(service.open for service in shop.services) == 0)
        assert (await shop.logged())[0]["flags"] == "DC"
        await eventually(shop.is_at_rest)


async def test_both_fail() -> None:
    together = asyncio.Event()

    async def close_later(request: Received) -> None:
        if received(shop) == 2:
            together.set()
        await together.wait()
        request.writer.close()

    async with rig(*pair(close_later), routes=(route(retry=Retry(attempts=2)),)) as shop:
        reply = await shop.get()
        assert (reply.status, reply.json()["reason"]) == (502, "URX")
        assert received(shop) == 2
        assert shop.is_at_rest()


async def test_where_one_fails_the_other_is_awaited() -> None:
    async def close_when_hedged(request: Received) -> None:
        await eventually(lambda: received(shop) == 2)
        request.writer.close()

    async def answer_when_alone(request: Received) -> None:
        await eventually(lambda: under_way(shop) == 1)
        request.writer.write(OK)

    scripts = pair(close_when_hedged, answer_when_alone)
    async with rig(*scripts, routes=(route(retry=Retry(attempts=1)),)) as shop:
        assert (await shop.get()).body == b"ok"
        assert received(shop) == 2


async def test_a_bad_answer_does_not_win_over_one_that_may_be_good() -> None:
    async def break_when_hedged(request: Received) -> None:
        await eventually(lambda: received(shop) == 2)
        request.writer.write(BAD)

    async def answer_when_alone(request: Received) -> None:
        await eventually(lambda: under_way(shop) == 1)
        request.writer.write(OK)

    async with rig(*pair(break_when_hedged, answer_when_alone), routes=(route(),)) as shop:
        assert (await shop.get()).body == b"ok"
        assert received(shop) == 2


async def test_tries_that_take_too_long_end_beside_each_other() -> None:
    config = route(retry=Retry(attempts=2), per_try=0.3)
    async with rig(*pair(hang), routes=(config,)) as shop:
        reply = await shop.get()
        assert (reply.status, reply.json()["reason"]) == (504, "UT")
        assert received(shop) == 2
        await eventually(lambda: sum(service.open for service in shop.services) == 0)


async def test_only_what_may_happen_twice_is_hedged() -> None:
    async with rig(*pair(hang, hang, answer), routes=(route(),)) as shop:
        key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
        upgrade = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", key)
        for request in (post(b"x"), get("/", *upgrade)):
            client = await shop.connect()
            await client.send(request)
        await eventually(lambda: received(shop) == 2)
        # What began later is hedged, and the others still are not.
        shop.services[0].script = shop.services[1].script = hang
        last = await shop.connect()
        await last.send(post(b"x", "idempotency-key: 1"))
        await eventually(lambda: hedges(shop) == 1)
        await eventually(lambda: received(shop) == 4)
        bodies = [r.body for service in shop.services for r in service.received]
        assert bodies.count(b"x") == 3


async def test_a_body_is_sent_whole_to_both_or_only_once() -> None:
    config = route(retry=Retry(attempts=1), per_try=0.5)
    for size in (1_000, 200_000):
        async with rig(*pair(hang), routes=(config,)) as shop:
            body = b"x" * size
            request = post(body, "idempotency-key: 1")
            assert (await shop.ask(request)).status == 504
            bodies = [r.body for service in shop.services for r in service.received]
            # What is too long to be kept cannot be sent again.
            assert bodies == [body] * (2 if size == 1_000 else 1)


async def test_who_sticks_to_an_instance_is_not_hedged() -> None:
    with pytest.raises(Misconfigured, match="sticks"):
        async with rig(Service(), routes=(route(),), upstreams=Upstreams(sticky=Sticky())):
            pass


async def test_hedges_have_a_budget() -> None:
    none = HedgeConfig(after=0.05, ratio=0.0, floor=0.0)
    config = route(none, Retry(attempts=1), per_try=0.3)
    async with rig(*pair(hang), routes=(config,)) as shop:
        assert (await shop.get()).status == 504
        assert (hedges(shop), received(shop)) == (0, 1)


async def test_there_is_nobody_else_to_ask() -> None:
    config = route(retry=Retry(attempts=1), per_try=0.3)
    async with rig(Service(hang), routes=(config,)) as shop:
        assert (await shop.get()).status == 504
        assert (hedges(shop), received(shop)) == (0, 1)


async def test_what_is_usual_is_learned() -> None:
    usual = HedgeConfig(min_samples=20, floor=100.0)
    services = pair(answer)
    async with rig(*services, routes=(route(usual),)) as shop:
        client = await shop.connect()
        for _ in range(40):
            await client.send(get())
            await client.reply()
        services[0].script = hang
        while not hedges(shop):
            await client.send(get())
            assert (await client.reply()).body == b"ok"
