"""Tries that fail: which are made once more, where, and what the client gets in the end."""

import asyncio

import pytest

from seawall.gateway.config import Route, Timeouts, Upstreams
from seawall.gateway.retrying import EVERY, Retry
from seawall.resilience.breaker import BreakerConfig
from tests.integration.gateway.rig import (
    OK,
    Received,
    Rig,
    Script,
    Service,
    get,
    post,
    rig,
    saying,
)
from tests.support.waiting import eventually

REFUSAL = b"HTTP/1.1 503 No\r\ncontent-length: 4\r\n%b\r\nbusy"
USUAL = Retry()
KEY = "idempotency-key: 1"


def refusing(times: int, fields: bytes = b"") -> Script:
    """Answer 503 the first `times` times."""
    left = times

    async def script(request: Received) -> None:
        nonlocal left
        left -= 1
        request.writer.write(REFUSAL % fields if left >= 0 else OK)

    return script


async def never(request: Received) -> None:
    await request.reader.read()


def first_hangs() -> Script:
    """Do not answer the first request; answer all others."""
    seen = 0

    async def script(request: Received) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            await never(request)
        else:
            request.writer.write(OK)

    return script


def route(retry: Retry = USUAL, **timeouts: float) -> tuple[Route, ...]:
    return (Route(service="shop", retry=retry, timeouts=Timeouts(**timeouts)),)


def bad(shop: Rig) -> int:
    """What the service's breaker holds against it."""
    return shop.gateway.cluster_list()[0].breaker.snapshot(shop.gateway.proxy.now()).bad


ON_503 = Retry(on=("connect", "reset", "timeout", "503"))


# a time for each try


async def test_a_try_that_takes_too_long_is_made_elsewhere() -> None:
    script = first_hangs()
    services = [Service(script, instance_id=f"shop-{n}") for n in (1, 2)]
    async with rig(*services, routes=route(per_try=0.2)) as shop:
        assert (await shop.get()).status == 200
        line = (await shop.logged())[0]
        assert (line["status"], line["attempts"], line["flags"]) == (200, 2, "-")
        assert sum(len(service.received) for service in services) == 2
        await eventually(lambda: sum(service.open for service in services) == 1)
        assert bad(shop) == 0


async def test_a_service_is_told_how_long_its_try_is_awaited() -> None:
    async with rig(Service(), routes=route(per_try=0.5)) as shop:
        await shop.get()
        assert int(shop.services[0].received[0].field("x-deadline-ms") or "") <= 500


@pytest.mark.parametrize("timeouts", [{"per_try": 0.2}, {"first_byte": 0.2}])
async def test_tries_that_all_take_too_long_are_504(timeouts: dict[str, float]) -> None:
    async with rig(Service(never), routes=route(Retry(attempts=2), **timeouts)) as shop:
        reply = await shop.get()
        assert (reply.status, reply.json()["reason"]) == (504, "UT")
        assert reply.json()["retryable"] is False
        assert len(shop.services[0].received) == 2
        await eventually(lambda: shop.services[0].open == 0 and bad(shop) == 1)


@pytest.mark.parametrize(
    ("request_", "status"), [(post(b"x"), 504), (post(b"x", KEY), 200), (get(method="PUT"), 200)]
)
async def test_what_may_have_been_seen_is_not_tried_again_unless_that_is_safe(
    request_: bytes, status: int
) -> None:
    async with rig(Service(first_hangs()), routes=route(per_try=0.2)) as shop:
        assert (await shop.ask(request_)).status == status
        bodies = [request.body for request in shop.services[0].received]
        assert len(bodies) == (1 if status == 504 else 2)
        assert len(set(bodies)) == 1


async def test_an_answer_that_stalls_is_broken_off() -> None:
    async def stalling(request: Received) -> None:
        request.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await never(request)

    async with rig(Service(stalling), routes=route(idle=0.2)) as shop:
        client = await shop.connect()
        await client.send(get())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.reply()
        line = (await shop.logged())[0]
        assert (line["status"], line["flags"], line["attempts"]) == (200, "UT", 1)
        assert bad(shop) == 1


async def test_a_try_s_time_ends_with_its_answer_s_head() -> None:
    go_on = asyncio.Event()

    async def slowly(request: Received) -> None:
        request.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no")
        await go_on.wait()
        request.writer.write(b"k")

    async with rig(
        Service(slowly),
        Service(never, name="other"),
        routes=(
            *route(per_try=0.2),
            Route(service="other", path="/other", timeouts=Timeouts(total=0.4)),
        ),
    ) as shop:
        client = await shop.connect()
        await client.send(get())
        assert (await client.head()).status == 200
        assert (await shop.get("/other")).status == 504  # so that the time of the try is over
        go_on.set()
        assert await client.reader.readexactly(2) == b"ok"


# statuses


async def test_a_status_is_retried_only_where_the_route_says_so() -> None:
    async with rig(Service(refusing(1))) as shop:
        reply = await shop.get()
        assert (reply.status, reply.body) == (503, b"busy")
    async with rig(Service(refusing(1)), routes=route(ON_503)) as shop:
        assert (await shop.get()).status == 200
        assert (await shop.logged())[0]["attempts"] == 2
        assert shop.services[0].connections == 2
        assert bad(shop) == 0


async def test_another_instance_is_asked_first() -> None:
    ill = Service(saying(REFUSAL % b""), instance_id="shop-1")
    well = Service(instance_id="shop-2")
    config = Upstreams(instance_breaker=BreakerConfig(consecutive_failures=1000))
    async with rig(ill, well, routes=route(ON_503), upstreams=config) as shop:
        for _ in range(20):
            assert (await shop.get()).status == 200
        assert {line["attempts"] for line in await shop.logged(20)} <= {1, 2}


async def test_the_last_answer_is_passed_on_and_says_that_tries_are_spent() -> None:
    async with rig(Service(refusing(100)), routes=route(ON_503)) as shop:
        reply = await shop.get()
        assert (reply.status, reply.body, reply.field("x-retryable")) == (503, b"busy", "false")
        assert len(shop.services[0].received) == 3
        assert bad(shop) == 1


async def test_a_gateway_behind_it_that_has_spent_its_tries_is_believed() -> None:
    async with rig(Service(refusing(1, b"x-retryable: false\r\n")), routes=route(ON_503)) as shop:
        reply = await shop.get()
        assert (reply.status, reply.field("x-retryable")) == (503, "false")
        assert len(shop.services[0].received) == 1


@pytest.mark.parametrize(
    ("retry", "request_", "status"),
    [
        (ON_503, post(b"x"), 503),
        (ON_503, post(b"x", KEY), 200),
        (Retry(on=("503",), methods=EVERY), post(b"x"), 200),
        (Retry(on=("503",), methods=("POST",)), post(b"x"), 200),
        (Retry(on=("503",), methods=("POST",)), get(), 503),
        (Retry(on=("502",)), get(), 503),
        (Retry(on=("503",), attempts=1), get(), 503),
        (ON_503, post(b"x" * 200_000, KEY), 503),  # more than is kept
    ],
)
async def test_which_requests_are_sent_again(retry: Retry, request_: bytes, status: int) -> None:
    async with rig(Service(refusing(1)), routes=route(retry)) as shop:
        assert (await shop.ask(request_)).status == status
        assert len(shop.services[0].received) == (2 if status == 200 else 1)


@pytest.mark.parametrize(
    ("pause", "fields", "status"),
    [
        (b"retry-after: 0\r\n", (), 200),
        (b"retry-after: 30\r\n", (), 503),  # longer than a client is kept waiting
        (b"retry-after: 1\r\n", ("x-deadline-ms: 700",), 503),  # longer than it waits
    ],
)
async def test_a_service_may_ask_for_a_pause(
    pause: bytes, fields: tuple[str, ...], status: int
) -> None:
    async with rig(Service(refusing(1, pause)), routes=route(ON_503)) as shop:
        assert (await shop.get("/", *fields)).status == status
        assert len(shop.services[0].received) == (2 if status == 200 else 1)


async def test_retries_on_statuses_have_a_budget_too() -> None:
    config = Upstreams(
        retry_floor=0.1,  # one in the ten seconds of the budget's window
        retry_ratio=0.0,
        breaker=BreakerConfig(consecutive_failures=1000),
        instance_breaker=BreakerConfig(consecutive_failures=1000),
    )
    async with rig(Service(refusing(100)), routes=route(ON_503), upstreams=config) as shop:
        for _ in range(5):
            reply = await shop.get()
            assert (reply.status, reply.field("x-retryable")) == (503, "false")
        assert len(shop.services[0].received) == 6


async def test_an_answer_that_has_begun_is_never_tried_again() -> None:
    half = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", close=True)
    async with rig(Service(half), routes=route(ON_503)) as shop:
        client = await shop.connect()
        await client.send(get())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.reply()
        assert len(shop.services[0].received) == 1


async def test_a_client_that_leaves_while_a_retry_waits_ends_it() -> None:
    retry = Retry(on=("503",), patience=10.0)
    async with rig(Service(refusing(9, b"retry-after: 5\r\n")), routes=route(retry)) as shop:
        client = await shop.connect()
        await client.send(get())
        await eventually(lambda: shop.gateway.proxy.metrics.retries.get("shop") == 1)
        client.writer.transport.abort()
        line = (await shop.logged())[0]
        assert (line["status"], line["flags"]) == (499, "DC")
        assert shop.is_at_rest()


async def test_a_body_that_still_comes_while_a_retry_waits_is_sent_whole() -> None:
    retry = Retry(on=("503",), methods=EVERY)
    heads = Service(refusing(1, b"retry-after: 1\r\n"), reads_body=False)
    async with rig(heads, routes=route(retry)) as shop:
        client = await shop.connect()
        await client.send(get("/", "content-length: 4", method="POST") + b"ab")
        await eventually(lambda: shop.gateway.proxy.metrics.retries.get("shop") == 1)
        await client.send(b"cd")
        assert (await client.reply()).status == 200
        assert await heads.received[1].reader.read(4) == b"abcd"


@pytest.mark.parametrize("turns", range(6))
async def test_a_loop_that_stands_still_while_connecting_loses_no_request(turns: int) -> None:
    hasty = (Route(service="shop", timeouts=Timeouts(connect=0.2)),)
    loop = asyncio.get_running_loop()
    async with rig(Service(), Service(instance_id="shop-2"), routes=hasty) as shop:
        (cluster,) = shop.gateway.cluster_list()

        def stand_still_after(turns: int) -> None:
            dialling = any(endpoint.connections for endpoint in cluster.endpoints)
            if turns or not dialling:
                loop.call_soon(stand_still_after, turns - dialling)
                return
            until = loop.time() + 0.3  # longer than connecting may take
            while loop.time() < until:
                pass

        client = await shop.connect()
        await client.send(get())
        stand_still_after(turns)
        assert (await client.reply()).status == 200
