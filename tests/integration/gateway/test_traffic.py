"""Splits, copies and faults, between clients and services that are real."""

import asyncio

from seawall.gateway.admin import admin
from seawall.gateway.config import GatewayConfig, Route, Timeouts
from seawall.gateway.gateway import Gateway, GatewayDraining, Static
from seawall.gateway.mirroring import Mirroring
from seawall.gateway.traffic import Abort, Arm, Delay, Faults, Mirror, Split, When
from seawall.resilience.breaker import BreakerMoved
from seawall.resilience.outlier import Ejected
from seawall.topology import Address, Constraint
from tests.integration.gateway.rig import (
    OK,
    Client,
    Received,
    Reply,
    Rig,
    Script,
    Service,
    get,
    post,
    rig,
    saying,
)
from tests.integration.gateway.test_policies import PROVIDERS
from tests.support.waiting import eventually

CANARY = Arm(
    service="shop",
    version=Constraint.parse("^2"),
    name="canary",
    match=When(headers={"x-try": "*"}, cookies={"beta": "yes"}),
)
STABLE = Arm(service="shop", version=Constraint.parse("^1"), name="stable", weight=1)


def versions() -> tuple[Service, Service]:
    return Service(), Service(instance_id="shop-2", version="2.0.0")


def halves(**more: object) -> Split:
    arms = (
        Arm(service="shop", version=Constraint.parse("^1"), name="a", weight=1),
        Arm(service="shop", version=Constraint.parse("^2"), name="b", weight=1),
    )
    return Split(arms=arms, **more)  # type: ignore[arg-type]  # a test's own options


async def page(shop: Rig, path: str) -> Reply:
    async with admin(shop.gateway, Address("127.0.0.1", 0)) as address:
        client = Client(*await asyncio.open_connection(address.host, address.port))
        await client.send(get(path))
        reply = await client.reply()
        client.close()
        return reply


# splits


async def test_a_request_that_asks_for_an_arm_gets_it_and_everybody_is_told() -> None:
    split = Split(arms=(STABLE, CANARY), tell=True)
    async with rig(*versions(), routes=(Route(split=split, name="orders"),)) as shop:
        one, two = shop.services
        wish = ("x-try: 1", "cookie: a=b; beta=yes")
        forced = await shop.get("/", *wish, "x-arm: stable", "X_Arm: stable")
        assert forced.field("x-arm") == "canary"
        assert forced.field("set-cookie") is None
        assert [request.fields("x-arm") for request in two.received] == [["canary"]]
        assert b"X_Arm" not in two.received[0].head
        for fields in (wish[:1], wish[1:], ()):
            assert (await shop.get("/", *fields)).field("x-arm") == "stable"
        assert (len(one.received), len(two.received)) == (3, 1)
        assert [line["arm"] for line in await shop.logged(4)] == ["canary", *["stable"] * 3]
        text = (await page(shop, "/metrics")).body.decode()
        assert 'http_route="orders",service="shop",arm="canary"} 1' in text
        assert 'http_route="orders",service="shop",arm="stable"} 3' in text
        route = (await page(shop, "/routes")).json()[0]
        assert route["split"]["arms"][1]["match"]["cookies"] == {"beta": "yes"}
        assert route["split"]["arms"][1]["version"] == "^2"


async def test_a_cookie_brings_a_client_back_to_its_arm() -> None:
    async with rig(*versions(), routes=(Route(split=halves(tell=True)),)) as shop:
        arms = set()
        for _ in range(12):
            first = await shop.get()
            cookie = first.field("set-cookie") or ""
            assert cookie.endswith("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax")
            again = await shop.get("/", f"cookie: x=y; {cookie.split(';')[0]}")
            assert again.field("set-cookie") is None
            assert again.field("x-arm") == first.field("x-arm")
            arms.add(first.field("x-arm"))
        assert arms == {"a", "b"}
        forged = await shop.get("/", f"cookie: seawall-arm={'f' * 4000}")
        assert forged.field("set-cookie") is not None


async def test_who_is_known_needs_no_cookie_and_without_one_the_address_decides() -> None:
    routes = (
        Route(split=halves(), path="/mine", auth="users"),
        Route(split=halves(cookie=""), path="/open"),
    )
    async with rig(*versions(), routes=routes, providers=PROVIDERS) as shop:
        for path, fields in (("/mine", ("authorization: Bearer ann",)), ("/open", ())):
            before = [len(service.received) for service in shop.services]
            replies = [await shop.get(path, *fields) for _ in range(6)]
            assert all(reply.field("set-cookie") is None for reply in replies)
            more = [len(s.received) - b for s, b in zip(shop.services, before, strict=True)]
            assert sorted(more) == [0, 6]


async def test_others_stand_in_for_an_arm_without_an_instance_unless_they_must_not() -> None:
    routes = (
        Route(split=Split(arms=(STABLE, CANARY))),
        Route(split=Split(arms=(STABLE, CANARY), fallback=False), path="/strict"),
    )
    wish = ("x-try: 1", "cookie: beta=yes")
    async with rig(Service(), routes=routes) as shop:
        assert (await shop.get("/", *wish)).status == 200
        assert shop.services[0].received[0].field("x-arm") == "stable"
        strict = await shop.get("/strict", *wish)
        assert (strict.status, strict.json()["reason"]) == (503, "UH")
        assert (await shop.logged(2))[1]["arm"] == "canary"


# copies


WELL = saying(OK)


def shadow(script: Script = WELL) -> Service:
    return Service(script, name="shadow", instance_id="shadow-1")


def mirrored(**more: object) -> tuple[Route, ...]:
    mirror = Mirror(service="shadow", **more)  # type: ignore[arg-type]  # a test's own options
    return (Route(service="shop", mirror=mirror),)


def mirroring(shop: Rig) -> Mirroring:
    found = shop.gateway.proxy.routes.entries[0].value.mirror
    assert found is not None
    return found


async def counted(shop: Rig, **wanted: int) -> None:
    """Wait until the copies came to this, and nothing else."""
    mirror = mirroring(shop)

    def are_counted() -> bool:
        return {name: count for name, count in mirror.counts.items() if count} == wanted

    await eventually(are_counted)
    await eventually(lambda: mirror.in_flight == 0)


async def test_a_copy_is_the_request_with_a_mark() -> None:
    refusal = b"HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nbad"
    async with rig(Service(), shadow(saying(refusal)), routes=mirrored()) as shop:
        one, two = shop.services
        client = await shop.connect()
        chunked = get("/c", "transfer-encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\n\r\n"
        for request in (get("/a?b=c", "x-mirror: 0"), post(b"body", path="/b"), chunked):
            await client.send(request)
            assert (await client.reply()).body == b"ok"
            await eventually(lambda: len(two.received) == len(one.received))
        await counted(shop, failed=3)
        assert [copy.line for copy in two.received] == [real.line for real in one.received]
        assert [copy.body for copy in two.received] == [b"", b"body", b"abc"]
        assert {copy.field("x-mirror") for copy in two.received} == {"1"}
        assert {real.field("x-mirror") for real in one.received} == {None}
        assert {copy.field("x-request-id") for copy in two.received} == {
            real.field("x-request-id") for real in one.received
        }
        assert two.connections == 1
        assert [line["service"] for line in await shop.logged(3)] == ["shop"] * 3
        text = (await page(shop, "/metrics")).body.decode()
        of = 'http_route="/",service="shadow"'
        assert f'seawall_gateway_mirrored_total{{{of},outcome="failed"}} 3' in text
        assert f"seawall_gateway_copies{{{of}}} 0" in text
        assert (await page(shop, "/routes")).json()[0]["mirror"]["service"] == "shadow"


async def test_a_copy_that_is_not_answered_keeps_nobody_waiting_and_is_bounded() -> None:
    async def never(request: Received) -> None:
        await request.reader.read()

    routes = mirrored(max_in_flight=1, timeout=0.3)
    async with rig(Service(), shadow(never), routes=routes) as shop:
        for _ in range(3):
            assert (await shop.get()).status == 200
        await counted(shop, late=1, overflow=2)
        assert len(shop.services[1].received) == 1
        assert shop.is_at_rest()


async def test_what_becomes_of_copies_harms_nobody() -> None:
    cut = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nno", close=True)
    for script in (saying(b"nonsense\r\n\r\n"), cut, saying(b"", close=True)):
        async with rig(Service(), shadow(script), routes=mirrored()) as shop:
            for number in range(8):
                assert (await shop.get()).status == 200
                await counted(shop, broken=number + 1)
            assert [line["attempts"] for line in await shop.logged(8)] == [1] * 8
            moved = (BreakerMoved, Ejected)
            assert not [fact for fact in shop.facts if isinstance(fact, moved)]


async def test_nobody_to_copy_to_is_counted() -> None:
    async with rig(Service(), routes=mirrored()) as shop:
        assert (await shop.get()).status == 200
        await counted(shop, nobody=1)
    async with rig(Service(), shadow(), routes=mirrored()) as shop:
        await shop.services[1].kill()
        assert (await shop.get()).status == 200
        await counted(shop, broken=1)


async def test_a_body_that_is_too_long_to_keep_is_not_copied() -> None:
    async with rig(Service(), shadow(), routes=mirrored()) as shop:
        assert (await shop.ask(post(b"x" * 200_000))).status == 200
        await counted(shop, too_large=1)
        assert shop.services[0].received[0].body == b"x" * 200_000
        assert shop.services[1].received == []


async def test_an_answer_to_a_copy_is_read_only_so_far() -> None:
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 9_000_000
    async with rig(Service(), shadow(saying(long)), routes=mirrored()) as shop:
        assert (await shop.get()).status == 200
        await counted(shop, answered=1)
        await eventually(lambda: shop.services[1].open == 0)


async def test_a_part_is_copied_and_no_upgrade() -> None:
    async with rig(Service(), shadow(), routes=mirrored(percent=50)) as shop:
        client = await shop.connect()
        for _ in range(40):
            await client.send(get())
            assert (await client.reply()).status == 200
        await eventually(lambda: mirroring(shop).in_flight == 0)
        assert 8 <= mirroring(shop).counts["answered"] <= 32
    async with rig(Service(), shadow(), routes=mirrored()) as shop:
        key = ("sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")
        upgrade = ("connection: upgrade", "upgrade: websocket", *key)
        assert (await shop.get("/", *upgrade)).status == 200
        assert shop.services[1].received == []


async def test_a_client_that_leaves_takes_no_copy_along() -> None:
    gone, answer = asyncio.Event(), asyncio.Event()

    async def when_told(request: Received) -> None:
        await answer.wait()
        request.writer.write(OK)

    async def until_gone(request: Received) -> None:
        await gone.wait()

    async with rig(Service(until_gone), shadow(when_told), routes=mirrored()) as shop:
        client = await shop.connect()
        await client.send(get())
        await eventually(lambda: len(shop.services[1].received) == 1)
        client.writer.transport.abort()
        assert (await shop.logged())[0]["flags"] == "DC"
        gone.set()
        answer.set()
        await counted(shop, answered=1)


async def drained_in_the_midst_of_a_copy(answers: bool) -> Mirroring:
    """Drain a gateway while a copy is under way, which is answered only then, or never."""
    draining = asyncio.Event()

    async def while_draining(request: Received) -> None:
        await draining.wait()
        if answers:
            request.writer.write(OK)

    def watch(fact: object) -> None:
        if isinstance(fact, GatewayDraining):
            draining.set()

    config = GatewayConfig(routes=mirrored(), drain=0.3, lame_duck=0.0)
    async with Service() as service, shadow(while_draining) as other:
        source = Static(service.instance, other.instance)
        gateway = Gateway(config, source, observer=watch)
        async with gateway.serving(Address("127.0.0.1", 0)) as address:
            client = Client(*await asyncio.open_connection(address.host, address.port))
            await client.send(get())
            assert (await client.reply()).status == 200
            client.close()
            await eventually(lambda: len(other.received) == 1)
    assert not gateway.copies.under_way
    mirror = gateway.proxy.routes.entries[0].value.mirror
    assert mirror is not None
    assert mirror.in_flight == 0
    return mirror


async def test_a_copy_has_the_time_that_a_drain_takes() -> None:
    assert (await drained_in_the_midst_of_a_copy(True)).counts["answered"] == 1
    assert (await drained_in_the_midst_of_a_copy(False)).counts["late"] == 1


# faults


def faulty(**more: object) -> tuple[Route, ...]:
    faults = Faults(**more)  # type: ignore[arg-type]  # a test's own options
    return (Route(service="shop", faults=faults, timeouts=Timeouts(total=0.5)),)


async def test_a_request_is_ended_with_a_status_or_with_its_connection() -> None:
    async with rig(Service(), routes=faulty(abort=Abort(status=418))) as shop:
        client = await shop.connect()
        for _ in range(2):
            await client.send(get())
            reply = await client.reply()
            assert (reply.status, reply.json()["reason"]) == (418, "FI")
        assert shop.services[0].received == []
        line = (await shop.logged())[0]
        assert (line["flags"], line["status"], line["attempts"]) == ("FI", 418, 0)
        text = (await page(shop, "/metrics")).body.decode()
        assert 'seawall_gateway_faults_total{http_route="/",kind="abort"} 2' in text
        assert (await page(shop, "/routes")).json()[0]["faults"]["abort"]["status"] == 418
    async with rig(Service(), routes=faulty(abort=Abort(reset=True))) as shop:
        client = await shop.connect()
        await client.send(post(b"body"))
        assert await client.is_closed()
        assert (await shop.logged())[0]["flags"] == "FI"


async def test_routes_with_one_label_are_one_series() -> None:
    faults = Faults(abort=Abort(status=418))
    routes = tuple(
        Route(service="shop", faults=faults, path=path, name="failing") for path in ("/a", "/b")
    )
    async with rig(Service(), routes=routes) as shop:
        for path in ("/a", "/b"):
            assert (await shop.get(path)).status == 418
        text = (await page(shop, "/metrics")).body.decode()
        said = [line for line in text.splitlines() if 'kind="abort"' in line]
        assert said == ['seawall_gateway_faults_total{http_route="failing",kind="abort"} 2']


async def test_a_request_is_held_back_with_all_of_its_body() -> None:
    async with rig(Service(), routes=faulty(delay=Delay(seconds=0.1))) as shop:
        client = await shop.connect()
        await client.send(post(b"x" * 100_000))
        assert (await client.reply()).status == 200
        assert shop.services[0].received[0].body == b"x" * 100_000
        line = (await shop.logged())[0]
        assert line["flags"] == "DI"
        assert line["duration_ms"] > 95  # uvloop's timers count in whole milliseconds
        assert shop.gateway.proxy.metrics.flags == {"DI": 1}
    both = faulty(delay=Delay(seconds=0.1), abort=Abort(status=500))
    async with rig(Service(), routes=both) as shop:
        assert (await shop.get()).status == 500
        assert (await shop.logged())[0]["flags"] == "FI"


async def test_who_leaves_meanwhile_leaves_nothing_behind() -> None:
    for half in (False, True):
        async with rig(Service(), routes=faulty(delay=Delay(seconds=60))) as shop:
            client = await shop.connect()
            await client.send(get())
            await eventually(lambda: shop.gateway.proxy.metrics.active_requests == 1)
            if half:
                client.writer.write_eof()
            else:
                client.writer.transport.abort()
            assert (await shop.logged())[0]["flags"] == "DC"
            assert shop.is_at_rest()
            assert shop.services[0].received == []


async def test_a_delay_is_not_longer_than_the_route_allows() -> None:
    async with rig(Service(), routes=faulty(delay=Delay(seconds=60))) as shop:
        assert (await shop.get()).status == 504
        assert (await shop.logged())[0]["flags"] == "UT"


async def test_faults_are_for_those_who_ask_for_them() -> None:
    routes = faulty(abort=Abort(status=418), match=When(headers={"x-fault": "1"}))
    async with rig(Service(), routes=routes) as shop:
        assert (await shop.get()).status == 200
        assert (await shop.get("/", "x-fault: 1")).status == 418
    trusted = faulty(abort=Abort(status=418), trusted=True)
    async with rig(Service(), routes=trusted) as shop:
        assert (await shop.get()).status == 200
    async with rig(Service(), routes=trusted, trusted_proxies=("127.0.0.1",)) as shop:
        assert (await shop.get()).status == 418
