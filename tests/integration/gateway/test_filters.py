"""Filters of the user's own, through a gateway: phases, answers, errors, and what they cost."""

import asyncio
import hashlib

import pytest

from seawall.errors import Misconfigured
from seawall.gateway.admin import admin
from seawall.gateway.auth import Provider
from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.custom import SAMPLE, FilterFailed, FilterSlow
from seawall.gateway.filter_config import FilterConfig, Phase
from seawall.gateway.filters import Answer, Request, Response, refuse, respond
from seawall.gateway.gateway import Gateway, Static
from seawall.identity.api_keys import ApiKey, ApiKeys
from seawall.topology import Address
from tests.integration.gateway.rig import Client, Rig, Service, get, rig

KEY = "sw_key"
KEYS = {
    "staff": Provider(
        ApiKeys(
            [
                ApiKey(
                    sha256=hashlib.sha256(KEY.encode()).hexdigest(),
                    subject="ann",
                    scopes=("books",),
                )
            ]
        ),
        header="x-api-key",
    )
}


class Tenant:
    """Lets those pass who name a tenant, and tells the service; and looks at answers."""

    def __init__(self, header: str, known: tuple[str, ...] = ("acme",)) -> None:
        self._header = header
        self._known = known

    def __call__(self, request: Request, now: float) -> Answer | None:
        tenant = request.header(self._header)
        if tenant is None:
            return respond(401, "who?", headers={"x-hint": self._header})
        if tenant not in self._known:
            return refuse(403, f"{tenant} is nobody", retry_after=3.0)
        request.set_header("x-tenant", tenant.upper())
        request.remove_header("x-secret")
        request.tell("x-seen", f"{request.subject or 'nobody'} {','.join(request.scopes)}")
        return None

    def on_answer(self, request: Request, response: Response) -> None:
        response.remove_header("server")
        response.set_header("x-was", f"{response.status} {request.method} {request.path}")


def on(phase: Phase, use: object, **options: object) -> FilterConfig:
    return FilterConfig(use=use, phase=phase, options=options)  # type: ignore[arg-type] # any callable


def broken(request: Request, now: float) -> Answer | None:
    raise KeyError("no such tenant")


def slow(request: Request, now: float) -> Answer | None:
    return None if sum(range(1_000_000)) else refuse(500, "")  # some milliseconds


def wrong(request: Request, now: float) -> str:
    return "yes"


async def test_a_filter_answers_changes_and_looks_at_answers() -> None:
    route = Route(service="shop", filters=(on(Phase.AFTER_AUTH, Tenant, header="x-of"),))
    async with rig(Service(), routes=(route,)) as shop:
        reply = await shop.get("/a?q=1", "x-of: acme", "x-secret: 1", "x-tenant: forged")
        assert reply.status == 200
        assert reply.field("x-seen") == "nobody"
        assert reply.field("x-was") == "200 GET /a"
        (received,) = shop.services[0].received
        assert received.fields("x-tenant") == ["ACME"]
        assert received.field("x-secret") is None
        reply = await shop.get("/")
        assert (reply.status, reply.body, reply.field("x-hint")) == (401, b"who?", "x-of")
        reply = await shop.get("/", "x-of: evil")
        assert (reply.status, reply.field("retry-after")) == (403, "3")
        assert reply.json()["detail"] == "evil is nobody"
        assert [line["flags"] for line in await shop.logged(3)] == ["-", "FA", "FA"]


async def test_phases_have_an_order_and_know_what_came_before() -> None:
    asked: list[str] = []

    def noting(name: str) -> object:
        def note(request: Request, now: float) -> Answer | None:
            asked.append(f"{name} {request.subject or '?'}")
            return None

        return note

    route = Route(
        service="shop",
        auth="staff",
        filters=(
            on(Phase.BEFORE_SERVICE, noting("last")),
            on(Phase.BEFORE_AUTH, noting("first")),
            on(Phase.AFTER_AUTH, noting("route's")),
        ),
    )
    every = on(Phase.AFTER_AUTH, noting("gateway's"))
    async with rig(Service(), routes=(route,), providers=KEYS) as shop:
        config = shop.gateway.config
        shop.gateway.apply(GatewayConfig(routes=(route,), filters=(every,), edge=config.edge))
        assert (await shop.get("/", f"x-api-key: {KEY}")).status == 200
        assert asked == ["first ?", "gateway's ann", "route's ann", "last ann"]
        asked.clear()
        assert (await shop.get("/", "x-api-key: no")).status == 401
        assert asked == ["first ?"]


@pytest.mark.parametrize(("filter_", "kind"), [(broken, "KeyError"), (wrong, "TypeError")])
async def test_one_that_fails_is_a_500_and_is_told_once(filter_: object, kind: str) -> None:
    route = Route(service="shop", filters=(on(Phase.AFTER_AUTH, filter_),))
    async with rig(Service(), routes=(route,)) as shop:
        client = await shop.connect()
        for _ in range(3):  # on one connection, which stays open
            await client.send(get())
            reply = await client.reply()
            assert (reply.status, reply.json()["reason"]) == (500, "FE")
        assert shop.services[0].received == []
        (told,) = [fact for fact in shop.facts if isinstance(fact, FilterFailed)]
        assert told.kind == kind
        (cost,) = shop.gateway.filter_costs()
        assert (cost.calls, cost.failed, cost.answered) == (3, 3, 3)


async def test_an_answer_whose_filter_fails_is_not_passed_on() -> None:
    def leak(request: Request, response: Response) -> None:
        response.set_header("content-length", "7")  # the gateway's own

    route = Route(service="shop", filters=(on(Phase.ON_ANSWER, leak),))
    async with rig(Service(), routes=(route,)) as shop:
        client = await shop.connect()
        for _ in range(2):
            await client.send(get())
            reply = await client.reply()
            assert (reply.status, reply.json()["reason"]) == (500, "FE")


async def test_slow_ones_are_counted_and_named() -> None:
    route = Route(service="shop", filters=(on(Phase.AFTER_AUTH, slow),))
    async with rig(Service(), routes=(route,)) as shop:
        for _ in range(3):
            assert (await shop.get()).status == 200
        (cost,) = shop.gateway.filter_costs()
        assert cost.slow == 3
        (told,) = [fact for fact in shop.facts if isinstance(fact, FilterSlow)]
        assert told.name.endswith(":slow")


async def test_what_filters_cost_is_seen() -> None:
    routes = (
        Route(
            service="shop",
            rewrite="/x",
            filters=(on(Phase.AFTER_AUTH, Tenant, header="x-of"),),
        ),
    )
    async with (
        rig(Service(), routes=routes) as shop,
        admin(shop.gateway, Address("127.0.0.1", 0)) as where,
    ):
        client = await shop.connect()
        for _ in range(SAMPLE + 1):
            await client.send(get("/", "x-of: acme"))
            assert (await client.reply()).status == 200
        page = Client(*await asyncio.open_connection(where.host, where.port))
        await page.send(b"GET /filters HTTP/1.1\r\nhost: a\r\n\r\n")
        rows = {(row["filter"], row["phase"]): row for row in (await page.reply()).json()}
        page.close()
        assert rows["Rewrite", "built-in"]["calls"] == SAMPLE + 1
        (mine,) = [row for (name, phase), row in rows.items() if phase == "after-auth"]
        assert mine["calls"] == SAMPLE + 1
        assert mine["cpu_us_per_call"] is not None
        metrics = Client(*await asyncio.open_connection(where.host, where.port))
        await metrics.send(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        text = (await metrics.reply()).body.decode()
        metrics.close()
        assert f'filter_calls_total{{filter="Rewrite",phase="built-in"}} {SAMPLE + 1}' in text


async def test_a_filter_that_stays_is_not_made_again() -> None:
    made: list[int] = []

    class Counting:
        def __init__(self, start: int) -> None:
            made.append(start)
            self._count = start

        def __call__(self, request: Request, now: float) -> Answer | None:
            self._count += 1
            request.tell("x-count", str(self._count))
            return None

    def configured(start: int, *more: Route) -> GatewayConfig:
        filter_ = on(Phase.AFTER_AUTH, Counting, start=start)
        return GatewayConfig(routes=(Route(service="shop", filters=(filter_,)), *more))

    async def count(shop: Rig) -> str | None:
        return (await shop.get()).field("x-count")

    async with rig(Service()) as shop:
        shop.gateway.apply(configured(0))
        assert await count(shop) == "1"
        shop.gateway.apply(configured(0, Route(service="shop", path="/other")))
        assert await count(shop) == "2"
        shop.gateway.apply(configured(10))
        assert await count(shop) == "11"
        assert made == [0, 10]


async def waiting(request: Request, now: float) -> None:
    """Not allowed."""


@pytest.mark.parametrize(
    ("filter_", "why"),
    [
        (FilterConfig(use="no.such.module:check"), "ModuleNotFoundError"),
        (FilterConfig(use="seawall.errors:nothing"), "AttributeError"),
        (FilterConfig(use=Tenant), "header"),
        (FilterConfig(use=broken, options={"a": 1}), "no class"),
        (FilterConfig(use=waiting), "waits"),
        (FilterConfig(use=lambda request: None), "positional"),
        (FilterConfig(use="seawall.gateway.custom:SLOW"), "neither be called"),
    ],
)
async def test_what_is_no_filter_is_refused_when_it_is_configured(
    filter_: FilterConfig, why: str
) -> None:
    config = GatewayConfig(routes=(Route(service="shop", filters=(filter_,)),))
    with pytest.raises(Misconfigured, match=why):
        Gateway(config, Static())


def test_a_name_without_object_is_refused() -> None:
    with pytest.raises(Misconfigured, match="names no object"):
        FilterConfig(use="shop.gateway")
