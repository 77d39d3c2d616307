"""Services that lie, stop, hang and die; and what the client gets all the same."""

import asyncio

import pytest

from seawall.gateway.config import Route, Timeouts, Upstreams
from seawall.gateway.retrying import Retry
from seawall.gateway.upstream import MAX_INTERIM
from seawall.resilience.breaker import BreakerConfig, BreakerMoved
from seawall.resilience.outlier import Ejected, OutlierConfig
from seawall.topology import Constraint
from tests.integration.gateway.rig import OK, Received, Script, Service, get, post, rig, saying
from tests.support.waiting import eventually

LIES = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\na: b\x00\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1),
]


@pytest.mark.parametrize("answer", LIES)
async def test_an_answer_that_is_not_http_is_502(answer: bytes) -> None:
    async with rig(Service(saying(answer))) as shop:
        reply = await shop.get()
        assert reply.status == 502
        assert reply.json()["reason"] == "UPE"
        assert reply.json()["service"] == "shop"
        await eventually(lambda: shop.services[0].open == 0)


CUT_SHORT = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
]


@pytest.mark.parametrize("answer", CUT_SHORT)
async def test_an_answer_that_is_cut_short_is_never_ended_cleanly(answer: bytes) -> None:
    async with rig(Service(saying(answer, close=True))) as shop:
        client = await shop.connect()
        await client.send(get())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.reply()
        line = (await shop.logged())[0]
        assert (line["status"], line["flags"]) == (200, "UC")


async def test_a_bad_chunk_in_the_midst_of_an_answer_breaks_it() -> None:
    go_on = asyncio.Event()

    async def script(request: Received) -> None:
        request.writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await go_on.wait()
        request.writer.write(b"XYZ\r\n")

    async with rig(Service(script)) as shop:
        client = await shop.connect()
        await client.send(get())
        await client.head()
        go_on.set()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.reader.readexactly(100)
        assert (await shop.logged())[0]["flags"] == "UPE"


@pytest.mark.parametrize(
    "surplus",
    [
        OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        b"HTTP/1.1 204 No Content\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nevil",
    ],
)
async def test_bytes_behind_an_answer_reach_nobody(surplus: bytes) -> None:
    async with rig(Service(saying(surplus))) as shop:
        client = await shop.connect()
        for _ in range(3):
            await client.send(get())
            reply = await client.reply()
            assert reply.status in (200, 204)
            assert b"evil" not in reply.raw
        assert shop.services[0].connections == 3


async def test_bytes_that_nobody_asked_for_close_their_connection() -> None:
    async def late(request: Received) -> None:
        request.writer.write(OK)
        await request.writer.drain()
        await sent.wait()
        request.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")

    sent = asyncio.Event()
    async with rig(Service(late)) as shop:
        client = await shop.connect()
        await client.send(get())
        await client.reply()
        sent.set()
        await eventually(lambda: shop.services[0].open == 0)
        await client.send(get())
        assert (await client.reply()).body == b"ok"


async def test_an_answer_before_the_request_is_whole_ends_both_connections() -> None:
    async with rig(
        Service(saying(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno"), reads_body=False)
    ) as shop:
        client = await shop.connect()
        await client.send(get("/", "content-length: 100000", method="POST") + b"x" * 1000)
        reply = await client.reply()
        assert (reply.status, reply.body, reply.field("connection")) == (413, b"no", "close")
        assert await client.is_closed()
        await eventually(lambda: shop.services[0].open == 0)


async def never(request: Received) -> None:
    await request.reader.read()


@pytest.mark.parametrize("timeouts", [Timeouts(total=0.2), Timeouts(first_byte=0.2)])
async def test_no_answer_in_time_is_504(timeouts: Timeouts) -> None:
    route = Route(service="shop", timeouts=timeouts, retry=Retry(attempts=1))
    async with rig(Service(never), routes=(route,)) as shop:
        client = await shop.connect()
        await client.send(get())
        reply = await client.reply()
        assert (reply.status, reply.json()["reason"]) == (504, "UT")
        assert reply.json()["retryable"] is True
        await eventually(lambda: shop.services[0].open == 0)
        breaker = shop.gateway.cluster_list()[0].breaker
        await eventually(lambda: breaker.snapshot(0.0).bad == 1)
        await client.send(get("/", "x-deadline-ms: 50"))
        assert (await client.reply()).status == 504
        # A client that gives no time says nothing about the service.
        assert breaker.snapshot(0.0).bad == 1


async def test_an_answer_that_is_not_finished_in_time_is_broken_off() -> None:
    async def half(request: Received) -> None:
        request.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await never(request)

    routes = (Route(service="shop", timeouts=Timeouts(total=0.2)),)
    async with rig(Service(half), routes=routes) as shop:
        client = await shop.connect()
        await client.send(get())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.reply()
        assert (await shop.logged())[0]["flags"] == "UT"


async def test_a_client_that_leaves_takes_its_request_with_it() -> None:
    async with rig(Service(never)) as shop:
        client = await shop.connect()
        await client.send(get())
        await eventually(lambda: bool(shop.services[0].received))
        client.writer.transport.abort()
        await eventually(lambda: shop.services[0].open == 0)
        line = (await shop.logged())[0]
        assert (line["status"], line["flags"]) == (499, "DC")


# instances that are not there


async def test_no_instance_is_503_and_says_why() -> None:
    async with rig(Service()) as shop:
        shop.source.show()
        reply = await shop.get()
        assert (reply.status, reply.json()["reason"]) == (503, "UH")
        assert "no ready instance of shop" in reply.json()["detail"]
        assert reply.field("retry-after") == "1"
        assert reply.json()["retryable"] is True


async def test_another_major_version_is_no_fallback() -> None:
    routes = (Route(service="shop", version=Constraint.parse("^2")),)
    async with rig(Service(version="1.9.0"), routes=routes) as shop:
        assert "1.9.0" in (await shop.get()).json()["detail"]


async def test_a_dead_instance_costs_a_retry_and_no_request() -> None:
    dead, alive = Service(instance_id="shop-1"), Service(instance_id="shop-2")
    async with rig(dead, alive) as shop:
        await dead.kill()
        for _ in range(20):
            assert (await shop.ask(post(b"not idempotent"))).status == 200
        lines = await shop.logged(20)
        assert {line["instance"] for line in lines} == {"shop-2"}
        assert max(line["attempts"] for line in lines) == 2
        assert any(isinstance(fact, Ejected) for fact in shop.facts)


async def test_where_all_are_dead_it_is_said_at_once() -> None:
    async with rig(Service()) as shop:
        await shop.services[0].kill()
        reply = await shop.get()
        assert (reply.status, reply.json()["reason"]) == (503, "UF")


def dying(times: int) -> Script:
    """Close the connection instead of answering, the first `times` times."""
    left = times

    async def script(request: Received) -> None:
        nonlocal left
        if left:
            left -= 1
            request.writer.close()
        else:
            request.writer.write(OK)

    return script


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(), 200),
        (get(method="PUT"), 200),
        (get(method="POST"), 502),
        (get("/", "idempotency-key: 1", method="POST"), 200),
        (post(b"x" * 1000, "Idempotency-Key: 1"), 200),
        (post(b"x" * 200_000, "idempotency-key: 1"), 502),
    ],
)
async def test_what_may_have_been_seen_is_sent_again_only_if_that_is_safe(
    request_: bytes, status: int
) -> None:
    async with rig(Service(dying(1))) as shop:
        assert (await shop.ask(request_)).status == status
        assert len(shop.services[0].received) == (2 if status == 200 else 1)
        if status == 200:
            first, second = shop.services[0].received
            assert first.body == second.body


async def test_retries_end() -> None:
    async with rig(Service(dying(100)), upstreams=Upstreams(attempts=3)) as shop:
        reply = await shop.get()
        assert (reply.status, reply.json()["reason"]) == (502, "URX")
        assert len(shop.services[0].received) == 3


async def test_retries_have_a_budget() -> None:
    config = Upstreams(
        retry_floor=0.2,  # two in the ten seconds of the budget's window
        retry_ratio=0.0,
        breaker=BreakerConfig(consecutive_failures=1000),
        instance_breaker=BreakerConfig(consecutive_failures=1000),
        outliers=OutlierConfig(consecutive_failures=1000),
    )
    async with rig(Service(dying(100)), upstreams=config) as shop:
        for _ in range(10):
            assert (await shop.get()).status == 502
        assert len(shop.services[0].received) == 12


async def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    async with rig(Service()) as shop:
        for _ in range(20):
            assert (await shop.get()).status == 200
            for writer in tuple(shop.services[0]._writers):
                writer.close()
        endpoint = shop.gateway.cluster_list()[0].endpoints[0]
        assert endpoint.breaker.snapshot(shop.gateway.proxy.now()).bad == 0


async def test_a_service_that_fails_is_left_alone_and_asked_again_later() -> None:
    status = b"500 Broken"

    async def script(request: Received) -> None:
        request.writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % status)

    config = Upstreams(
        breaker=BreakerConfig(consecutive_failures=3, open_for=0.3),
        instance_breaker=BreakerConfig(consecutive_failures=100),
    )
    async with rig(Service(script), upstreams=config) as shop:
        assert [(await shop.get()).status for _ in range(3)] == [500] * 3
        reply = await shop.get()
        assert (reply.status, reply.json()["reason"]) == (503, "UO")
        assert "circuit breaker of shop is open" in reply.json()["detail"]
        assert reply.field("retry-after") == "1"
        assert len(shop.services[0].received) == 3
        assert shop.is_at_rest()
        status = b"200 Better"
        breaker = shop.gateway.cluster_list()[0].breaker
        await eventually(lambda: breaker.retry_after(shop.gateway.proxy.now()) == 0)
        assert (await shop.get()).status == 200
        assert [fact.now.value for fact in shop.facts if isinstance(fact, BreakerMoved)] == [
            "open",
            "half-open",
            "closed",
        ]


async def test_a_killed_instance_does_not_close_its_service() -> None:
    async with rig(Service(never)) as shop:
        clients = [await shop.connect() for _ in range(40)]
        for client in clients:
            await client.send(post(b""))
        await eventually(lambda: len(shop.services[0].received) == 40)
        await shop.services[0].kill()
        assert {(await client.reply()).status for client in clients} == {502}
        async with Service(instance_id="shop-2") as successor:
            shop.source.show(successor.instance)
            assert (await shop.get()).status == 200


async def test_too_many_requests_under_way_are_503() -> None:
    async with rig(Service(never), upstreams=Upstreams(max_requests=2)) as shop:
        clients = [await shop.connect() for _ in range(2)]
        for client in clients:
            await client.send(get())
        await eventually(lambda: len(shop.services[0].received) == 2)
        reply = await shop.get()
        assert (reply.status, reply.json()["reason"]) == (503, "UO")


async def test_load_goes_where_there_is_least() -> None:
    slow, fast = Service(never, instance_id="shop-1"), Service(instance_id="shop-2")
    async with rig(slow, fast) as shop:
        stuck = [await shop.connect() for _ in range(30)]
        metrics = shop.gateway.proxy.metrics
        for sent, client in enumerate(stuck, 1):
            await client.send(get())
            await eventually(lambda sent=sent: len(slow.received) + len(fast.received) == sent)  # type: ignore[misc]
            await eventually(lambda: metrics.active_requests == len(slow.received))
        assert len(slow.received) <= 1
