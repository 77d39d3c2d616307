"""Who may pass and how often; what operators see; where the log goes."""

import asyncio
import hashlib
import json
import time
from pathlib import Path

from seawall.clock import SYSTEM
from seawall.errors import Unavailable
from seawall.gateway.admin import admin
from seawall.gateway.auth import Provider
from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.gateway import Gateway, Static
from seawall.gateway.limits import Limit, LimitBy
from seawall.identity.api_keys import ApiKey, ApiKeys
from seawall.identity.claims import Claims, Expired
from seawall.topology import Address
from tests.integration.gateway.rig import Client, Reply, Service, get, rig
from tests.support.waiting import eventually


class Words:
    """A verifier whose tokens are words."""

    def verify(self, presented: str, now: float) -> Claims:
        assert abs(now - time.time()) < 60  # noqa: TID251 - it must be the wall clock
        if presented == "unknowable":
            raise Unavailable("the keys were not read yet")
        if presented not in ("ann", "bob"):
            raise Expired(presented)
        return Claims(subject=presented, issuer="tests", scopes=("orders:read",))


PROVIDERS = {
    "users": Provider(Words()),
    "machines": Provider(
        ApiKeys([ApiKey(sha256=hashlib.sha256(b"secret").hexdigest(), subject="robot")]),
        header="X-Api-Key",
    ),
}
ROUTES = (
    Route(service="shop", path="/"),
    Route(service="shop", path="/mine", auth="users"),
    Route(service="shop", path="/write", auth="users", scopes=("orders:write",)),
    Route(service="shop", path="/read", auth="users", scopes=("orders:read",), keep_token=True),
    Route(service="shop", path="/machines", auth="machines"),
)


async def test_who_is_known_passes_and_the_service_hears_who_it_is() -> None:
    async with rig(Service(), routes=ROUTES, providers=PROVIDERS) as shop:
        lie = "x-identity-subject: root"
        assert (await shop.get("/mine", "authorization: Bearer ann", lie)).status == 200
        received = shop.services[0].received[0]
        assert received.fields("x-identity-subject") == ["ann"]
        assert received.fields("x-identity-scopes") == ["orders:read"]
        assert received.fields("x-identity-issuer") == ["tests"]
        assert received.field("authorization") is None
        assert (await shop.logged())[0]["subject"] == "ann"
        assert (await shop.get("/read", "authorization: bearer bob")).status == 200
        assert shop.services[0].received[1].field("authorization") == "bearer bob"


async def test_who_is_not_known_does_not_pass() -> None:
    async with rig(Service(), routes=ROUTES, providers=PROVIDERS) as shop:
        missing = await shop.get("/mine")
        assert (missing.status, missing.field("www-authenticate")) == (401, "Bearer")
        assert missing.json()["reason"] == "UAEX"
        wrong = await shop.get("/mine", "authorization: Bearer eve")
        assert (wrong.status, wrong.field("www-authenticate")) == (
            401,
            'Bearer error="invalid_token"',
        )
        basic = await shop.get("/mine", "authorization: Basic YTpi")
        assert basic.status == 401
        twice = await shop.get("/mine", "authorization: Bearer ann", "authorization: Bearer bob")
        assert twice.status == 400
        query = await shop.get("/mine?access_token=x", "authorization: Bearer ann")
        assert query.status == 400
        scope = await shop.get("/write", "authorization: Bearer ann")
        assert scope.status == 403
        assert "orders:write" in (scope.field("www-authenticate") or "")
        away = await shop.get("/mine", "authorization: Bearer unknowable")
        assert (away.status, away.field("retry-after")) == (503, "1")
        # The path that is checked is the path that is sent.
        dotted = await shop.get("/public/%2e%2e/mine")
        assert dotted.status == 401
        assert shop.services[0].received == []


async def test_api_keys_are_credentials_too() -> None:
    async with rig(Service(), routes=ROUTES, providers=PROVIDERS) as shop:
        assert (await shop.get("/machines", "x-api-key: secret")).status == 200
        received = shop.services[0].received[0]
        assert received.field("x-identity-subject") == "robot"
        assert received.field("x-api-key") is None
        assert (await shop.get("/machines", "x-api-key: guess")).status == 401
        assert (await shop.get("/machines")).status == 401


async def test_a_refused_request_keeps_its_connection() -> None:
    async with rig(Service(), routes=ROUTES, providers=PROVIDERS) as shop:
        client = await shop.connect()
        await client.send(get("/mine") + get("/"))
        assert [(await client.reply()).status for _ in range(2)] == [401, 200]


def limited(by: LimitBy) -> Route:
    return Route(service="shop", auth="users", limits=(Limit(rate=0.01, burst=2, by=by),))


async def test_a_limit_is_told_in_every_answer() -> None:
    async with rig(Service(), routes=(limited(LimitBy.IDENTITY),), providers=PROVIDERS) as shop:

        async def ask(who: str) -> Reply:
            return await shop.get("/", f"authorization: Bearer {who}")

        first, second, third = [await ask("ann") for _ in range(3)]
        assert [one.status for one in (first, second, third)] == [200, 200, 429]
        assert first.field("ratelimit-policy") == '"identity";q=2;w=200'
        assert (first.field("ratelimit") or "").startswith('"identity";r=1;t=')
        assert (second.field("ratelimit") or "").startswith('"identity";r=0;t=')
        assert 90 <= int(third.field("retry-after") or 0) <= 100
        assert third.json()["reason"] == "RL"
        assert (await ask("bob")).status == 200


async def test_a_limit_by_address_or_route_holds_for_all() -> None:
    for by in (LimitBy.ADDRESS, LimitBy.ROUTE):
        async with rig(Service(), routes=(limited(by),), providers=PROVIDERS) as shop:
            answers = [
                (await shop.get("/", f"authorization: Bearer {who}")).status
                for who in ("ann", "bob", "ann")
            ]
            assert answers == [200, 200, 429]


async def test_how_much_is_a_question_of_the_plan() -> None:
    keys = {"rich": "gold", "poor": "", "lost": "platinum"}
    known = [
        ApiKey(sha256=hashlib.sha256(name.encode()).hexdigest(), subject=name, plan=plan)
        for name, plan in keys.items()
    ]
    providers = {"machines": Provider(ApiKeys(known), header="x-api-key")}
    plans = {"free": (Limit(rate=0.01, burst=1),), "gold": (Limit(rate=0.01, burst=3),)}
    routes = (
        Route(service="shop", path="/", plans=True),
        Route(service="shop", path="/keyed", auth="machines", plans=True),
        Route(
            service="shop",
            path="/strict",
            auth="machines",
            plans=True,
            limits=(Limit(rate=0.01, burst=2, by=LimitBy.ROUTE),),
        ),
    )
    async with rig(
        Service(), routes=routes, providers=providers, plans=plans, default_plan="free"
    ) as shop:

        async def asked(path: str, *fields: str) -> list[int]:
            return [(await shop.get(path, *fields)).status for _ in range(4)]

        assert await asked("/") == [200, 429, 429, 429]
        assert await asked("/keyed", "x-api-key: poor") == [200, 429, 429, 429]
        assert await asked("/keyed", "x-api-key: lost") == [200, 429, 429, 429]
        first = await shop.get("/strict", "x-api-key: rich")
        assert first.field("ratelimit-policy") == '"route";q=2;w=200, "gold-identity";q=3;w=300'
        assert (first.field("ratelimit") or "").startswith('"route";r=1;t=')
        # One of the plan's three was used there; what the route refuses is not.
        assert await asked("/strict", "x-api-key: rich") == [200, 429, 429, 429]
        assert await asked("/keyed", "x-api-key: rich") == [200, 429, 429, 429]


# what operators see


async def test_the_admin_listener_says_what_is() -> None:
    async with (
        rig(Service(), routes=ROUTES, providers=PROVIDERS) as shop,
        admin(shop.gateway, Address("127.0.0.1", 0)) as address,
    ):

        async def page(path: str, method: str = "GET") -> Reply:
            client = Client(*await asyncio.open_connection(address.host, address.port))
            await client.send(get(path, method=method))
            reply = await client.reply()
            client.close()
            return reply

        await shop.get("/")
        await shop.get("/mine")
        assert (await page("/livez")).status == 200
        assert (await page("/readyz")).status == 200
        assert (await page("/nothing")).status == 404
        assert (await page("/livez", "POST")).status == 405
        routes = (await page("/routes")).json()
        assert [route["path"] for route in routes] == [route.path for route in ROUTES]
        upstreams = (await page("/upstreams")).json()
        assert upstreams[0]["service"] == "shop"
        assert upstreams[0]["breaker"] == "closed"
        assert upstreams[0]["instances"][0]["requests"] == 1
        assert (await page("/limits")).json() == []
        text = (await page("/metrics")).body.decode()
        assert (
            'http_server_request_duration_seconds_count{http_request_method="GET",'
            'http_response_status_code="200",http_route="/",service="shop"} 1' in text
        )
        assert 'seawall_gateway_flags_total{flag="UAEX"} 1' in text
        assert 'seawall_breaker_state{service="shop",version="*"} 0' in text
        shop.gateway.proxy.draining = True
        assert (await page("/readyz")).body == b"draining\n"


async def test_the_admin_listener_may_be_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    for _ in range(2):  # the second finds the socket of the first, as after kill -9
        async with rig(Service()) as shop, admin(shop.gateway, path):
            client = Client(*await asyncio.open_unix_connection(path))
            await client.send(get("/readyz"))
            assert (await client.reply()).body.startswith(b"ready\n")
            client.close()


async def test_the_log_is_one_json_object_a_request(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with Service() as service:
        config = GatewayConfig(
            routes=(Route(service="shop"),), access_log=str(log), drain=0.2, lame_duck=0.0
        )
        gateway = Gateway(config, Static(service.instance))
        async with gateway.serving(Address("127.0.0.1", 0)) as address:
            client = Client(*await asyncio.open_connection(address.host, address.port))
            await client.send(get("/a%20b") + b"garbage\r\n\r\n")
            assert (await client.reply()).status == 200
            assert (await client.reply()).status == 400
            client.close()
            await eventually(lambda: log.exists() and log.stat().st_size > 0)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["path"], line["status"], line["flags"]) for line in lines] == [
        ("/a%20b", 200, "-"),
        ("", 400, "DPE"),
    ]
    stamp = time.strftime("%Y-%m-%dT", time.gmtime(SYSTEM.wall()))
    assert lines[0]["timestamp"].startswith(stamp)
