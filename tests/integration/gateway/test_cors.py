"""Pages of other origins: what browsers are told, by whoever answers."""

from seawall.errors import Refused
from seawall.gateway.auth import Provider
from seawall.gateway.config import Route
from seawall.gateway.cors import Cors
from seawall.gateway.limits import Limit, LimitBy
from seawall.identity.claims import Claims
from tests.integration.gateway.rig import Reply, Service, get, rig, saying

ORIGIN = "origin: https://shop.example"
CORS = Cors(
    origins=("https://shop.example", "https://*.shop.example"),
    headers=("authorization",),
    expose=("x-total",),
    credentials=True,
)


class Closed:
    """Lets nobody in."""

    def verify(self, credential: str, now: float) -> Claims:
        raise Refused("nobody may")


def closed() -> dict[str, Provider]:
    return {"closed": Provider(Closed())}


def allowed(reply: Reply) -> str | None:
    return reply.field("access-control-allow-origin")


async def test_a_preflight_is_answered_before_authentication() -> None:
    route = Route(service="shop", methods=("PUT",), auth="closed", cors=CORS)
    async with rig(Service(), routes=(route,), providers=closed()) as r:
        client = await r.connect()
        await client.send(
            get("/", ORIGIN, "access-control-request-method: PUT", method="OPTIONS")
            + get("/", ORIGIN, method="PUT")
        )
        told = await client.reply()
        assert (told.status, allowed(told)) == (204, "https://shop.example")
        assert told.field("access-control-allow-methods") == "PUT"
        assert told.field("access-control-allow-headers") == "authorization"
        assert told.field("access-control-allow-credentials") == "true"
        assert told.field("access-control-max-age") == "600"
        assert told.field("vary") == "origin"
        # And the refusal is one that the page may read.
        refused = await client.reply()
        assert (refused.status, allowed(refused)) == (401, "https://shop.example")
        assert r.services[0].received == []


async def test_a_preflight_from_elsewhere_is_refused() -> None:
    async with rig(Service(), routes=(Route(service="shop", cors=CORS),)) as r:
        fields = ("origin: https://evil.example", "access-control-request-method: PUT")
        reply = await r.ask(get("/", *fields, method="OPTIONS"))
        assert (reply.status, allowed(reply), reply.field("vary")) == (403, None, "origin")
        assert r.services[0].received == []


async def test_other_options_are_the_service_s() -> None:
    async with rig(Service(), routes=(Route(service="shop", cors=CORS),)) as r:
        assert (await r.ask(get("/", ORIGIN, method="OPTIONS"))).body == b"ok"


async def test_the_gateway_speaks_in_place_of_the_service() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\naccess-control-max-age: 1\r\n"
        b"content-length: 2\r\n\r\nok"
    )
    async with rig(Service(saying(answer)), routes=(Route(service="shop", cors=CORS),)) as r:
        reply = await r.get("/", "origin: https://a.shop.example")
        assert reply.body == b"ok"
        assert allowed(reply) == "https://a.shop.example"
        assert reply.field("access-control-expose-headers") == "x-total"
        assert reply.raw.lower().count(b"access-control-allow-origin") == 1
        assert reply.field("access-control-max-age") is None
        for others in ((), ("origin: https://evil.example",)):
            told = await r.get("/", *others)
            assert (told.body, allowed(told), told.field("vary")) == (b"ok", None, "origin")


async def test_errors_of_the_gateway_can_be_read_too() -> None:
    limit = Limit(rate=0.01, burst=1, by=LimitBy.ROUTE)
    routes = (
        Route(service="shop", path="/limited", cors=CORS, limits=(limit,)),
        Route(service="nobody", path="/away", cors=CORS),
    )
    async with rig(Service(), routes=routes) as r:
        replies = [await r.get(path, ORIGIN) for path in ("/limited", "/limited", "/away")]
        assert [reply.status for reply in replies] == [200, 429, 503]
        assert {allowed(reply) for reply in replies} == {"https://shop.example"}


async def test_without_cors_everything_is_between_page_and_service() -> None:
    answer = b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\ncontent-length: 0\r\n\r\n"
    async with rig(Service(saying(answer))) as r:
        fields = (ORIGIN, "access-control-request-method: PUT")
        assert allowed(await r.ask(get("/", *fields, method="OPTIONS"))) == "*"
        (received,) = r.services[0].received
        assert received.field("access-control-request-method") == "PUT"
