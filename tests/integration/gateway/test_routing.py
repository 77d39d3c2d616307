"""Where requests go and as what: the path that was matched is the one that is asked for."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from seawall.clock import SYSTEM
from seawall.errors import Refused
from seawall.gateway.actions import Edits, Redirect, RegexRewrite, Respond
from seawall.gateway.admin import admin
from seawall.gateway.auth import Provider
from seawall.gateway.config import Route
from seawall.gateway.limits import Limit, LimitBy
from seawall.identity.claims import Claims
from seawall.topology import Address
from tests.integration.gateway.rig import OK, Rig, Service, get, post, rig, saying


@pytest.mark.parametrize(
    ("route", "path", "sent"),
    [
        (Route(service="shop", path="/api", rewrite="/v1"), "/api/x?a=1", b"/v1/x?a=1"),
        (Route(service="shop", path="/u/{id}", rewrite="/{id}/u"), "/u/7/x", b"/7/u/x"),
        (
            Route(service="shop", path="/u/(?P<id>[0-9]+)", regex=True, rewrite="/users/{id}"),
            "/u/12",
            b"/users/12",
        ),
        (
            Route(service="shop", rewrite_regex=RegexRewrite(pattern="^/v1/(.*)", to=r"/\1")),
            "/v1/a?b",
            b"/a?b",
        ),
        (
            Route(
                service="shop",
                path="/api",
                rewrite="/",
                rewrite_regex=RegexRewrite(pattern="old", to="new"),
            ),
            "/api/old",
            b"/new",
        ),
        (Route(service="shop", rewrite="/v1"), "/%61/./b/../c//d", b"/v1/a/c/d"),
    ],
)
async def test_a_path_is_rewritten(route: Route, path: str, sent: bytes) -> None:
    async with rig(Service(), routes=(route,)) as r:
        assert (await r.get(path)).status == 200
        assert r.services[0].received[0].line == b"GET " + sent + b" HTTP/1.1"
        # The log says what the client asked for.
        assert (await r.logged())[0]["path"] != sent.decode().partition("?")[0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/x/.", 200),
        ("/x/.hidden", 400),  # would become /y/./hidden
        ("/x/%2541", 400),  # would become /y/%, a broken escape
        ("/x/a..", 400),  # would become /../up
        ("/x/" + "a" * 3000, 414),  # would be three times as long
    ],
)
async def test_what_a_rewrite_makes_unclear_is_never_forwarded(path: str, status: int) -> None:
    rules = [
        RegexRewrite(pattern=r"^/x/\.(.*)", to=r"/y/./\1"),
        RegexRewrite(pattern=r"^/x/%25.*", to=r"/y/%"),
        RegexRewrite(pattern=r"^/x/a(\.\.)$", to=r"/\1/up"),
        RegexRewrite(pattern=r"^/x/(aaa+)", to=r"/\1/\1/\1"),
    ]
    patterns = [r"/x/\..*", r"/x/%25.*", r"/x/a\.\.", r"/x/aaa+"]
    routes = [
        Route(service="shop", path=path, regex=True, rewrite_regex=rule)
        for path, rule in zip(patterns, rules, strict=True)
    ]
    async with rig(Service(), routes=(*routes, Route(service="shop"))) as r:
        reply = await r.get(path)
        assert reply.status == status
        assert len(r.services[0].received) == (status == 200)
        assert (await r.logged())[0]["flags"] == ("-" if status == 200 else "DPE")


async def test_options_about_the_whole_server_are_not_rewritten() -> None:
    async with rig(Service(), routes=(Route(service="shop", rewrite="/v1"),)) as r:
        assert (await r.ask(get("*", method="OPTIONS"))).status == 200
        assert r.services[0].received[0].line == b"OPTIONS * HTTP/1.1"


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_another_host_is_named(version: str) -> None:
    async with rig(Service(), routes=(Route(service="shop", host_rewrite="in.side:81"),)) as r:
        host = "host: shop.example\r\n" if version == "1.1" else ""
        await r.ask(f"GET / HTTP/{version}\r\n{host}\r\n".encode())
        received = r.services[0].received[0]
        assert received.fields("host") == ["in.side:81"]
        expected = "shop.example" if version == "1.1" else "in.side:81"
        assert received.fields("x-forwarded-host") == [expected]


class Token:
    def verify(self, presented: str, now: float) -> Claims:
        if presented != "good":
            raise Refused("no")
        return Claims("ann", "test", ("orders",))


async def test_fields_are_edited_on_the_way_there() -> None:
    edits = Edits(remove=("cookie",), set={"Accept": "text/html"}, add={"X-Source": "edge"})
    route = Route(service="shop", request_headers=edits, auth="token")
    async with rig(Service(), routes=(route,), providers={"token": Provider(Token())}) as r:
        fields = ("cookie: a=b", "COOKIE: c=d", "accept: */*", "x-source: me")
        assert (await r.get("/", *fields)).status == 401
        assert (await r.get("/", *fields, "authorization: Bearer good")).status == 200
        received = r.services[0].received[0]
        assert received.fields("cookie") == []
        assert received.fields("accept") == ["text/html"]
        assert received.fields("x-source") == ["me", "edge"]
        assert received.fields("x-identity-subject") == ["ann"]


async def test_fields_are_edited_on_the_way_back() -> None:
    edits = Edits(remove=("server",), set={"Cache-Control": "no-store"}, add={"Set-Cookie": "a=1"})
    answer = (
        b"HTTP/1.1 200 OK\r\nServer: x\r\ncache-control: public\r\nset-cookie: b=2\r\n"
        b"content-length: 2\r\n\r\nok"
    )
    service = Service(saying(answer))
    async with rig(service, routes=(Route(service="shop", response_headers=edits),)) as r:
        reply = await r.get()
        assert reply.body == b"ok"
        assert reply.field("server") is None
        assert [v for k, v in reply.fields if k == "cache-control"] == ["no-store"]
        assert [v for k, v in reply.fields if k == "set-cookie"] == ["b=2", "a=1"]


async def test_hints_and_streams_are_not_held_up_by_edits() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK
    edits = Edits(set={"x-a": "1"})
    service = Service(saying(answer))
    async with rig(service, routes=(Route(service="shop", response_headers=edits),)) as r:
        client = await r.connect()
        await client.send(get())
        hint, reply = await client.head(), await client.reply()
        assert (hint.status, hint.field("x-a")) == (103, None)
        assert (reply.status, reply.field("x-a"), reply.body) == (200, "1", b"ok")


@pytest.mark.parametrize(
    ("redirect", "path", "location"),
    [
        (Redirect(scheme="https"), "/a/x?b=%0d%0a", "https://shop.example/a/x?b=%0d%0a"),
        (Redirect(scheme="https", port=8443), "/a", "https://shop.example:8443/a"),
        (Redirect(host="new.example"), "/a", "//new.example/a"),
        (Redirect(path="/b"), "/a/x?q", "/b/x?q"),
        (Redirect(path="/"), "/a", "/"),
        (Redirect(path="/"), "/a//evil.example", "/evil.example"),
        (Redirect(host="n", scheme="http", path="/b"), "/a/", "http://n/b/"),
        (Redirect(scheme="https"), "/a/%c3%a9:%20y", "https://shop.example/a/%C3%A9:%20y"),
    ],
)
async def test_a_client_is_sent_elsewhere(redirect: Redirect, path: str, location: str) -> None:
    async with rig(Service(), routes=(Route(path="/a", redirect=redirect),)) as r:
        reply = await r.get(path)
        assert (reply.status, reply.field("location"), reply.body) == (302, location, b"")
        assert reply.field("content-length") == "0"
        assert (await r.logged())[0]["flags"] == "-"
        assert r.services[0].received == []


async def test_a_redirect_uses_parameters_and_its_status() -> None:
    route = Route(
        path="/u/{id}",
        exact=True,
        redirect=Redirect(path="/users/{id}", status=308),
        response_headers=Edits(set={"Cache-Control": "max-age=60"}),
    )
    async with rig(Service(), routes=(route,)) as r:
        client = await r.connect()
        # A body that nobody wants does not end the connection.
        await client.send(post(b"x" * 100, path="/u/7") + get("/u/8"))
        first, second = await client.reply(), await client.reply()
        assert (first.status, first.field("location")) == (308, "/users/7")
        assert first.field("cache-control") == "max-age=60"
        assert second.field("location") == "/users/8"


async def test_who_names_no_host_is_not_sent_to_one() -> None:
    async with rig(Service(), routes=(Route(redirect=Redirect(scheme="https")),)) as r:
        assert (await r.ask(b"GET / HTTP/1.0\r\n\r\n")).status == 400
        assert (await r.ask(get("*", method="OPTIONS"))).status == 400


async def test_a_route_answers_itself() -> None:
    page = Respond(status=503, body='{"back": "soon"}', content_type="application/json")
    routes = (
        Route(path="/down", respond=page, response_headers=Edits(set={"Retry-After": "60"})),
        Route(path="/empty", respond=Respond(status=204)),
    )
    async with rig(Service(), routes=routes) as r:
        reply = await r.get("/down")
        assert (reply.status, reply.json()) == (503, {"back": "soon"})
        assert reply.field("content-type") == "application/json"
        assert reply.field("retry-after") == "60"
        reply = await r.ask(get("/down", method="HEAD"), to_head=True)
        assert (reply.status, reply.field("content-length")) == (503, "16")
        reply = await r.get("/empty")
        assert (reply.status, reply.field("content-length")) == (204, None)
        assert (await r.logged(3))[0]["service"] == ""


async def test_who_may_not_pass_is_not_answered_by_the_route() -> None:
    limit = Limit(rate=0.001, burst=1, by=LimitBy.ADDRESS)
    route = Route(respond=Respond(body="secret"), auth="token", limits=(limit,))
    async with rig(Service(), routes=(route,), providers={"token": Provider(Token())}) as r:
        assert (await r.get()).status == 401
        assert (await r.get("/", "authorization: Bearer good")).body == b"secret"
        assert (await r.get("/", "authorization: Bearer good")).status == 429


@pytest.fixture
async def guarded() -> AsyncIterator[Rig]:
    """A public folder, and one that needs a token, as services see them."""
    routes = (
        Route(service="shop", path="/public", rewrite="/files"),
        Route(service="shop", path="/admin", auth="token"),
        Route(service="shop", path="/{tenant}/admin", auth="token"),
    )
    async with rig(Service(), routes=routes, providers={"token": Provider(Token())}) as r:
        yield r


@pytest.mark.parametrize(
    ("target", "status", "sent"),
    [
        ("/public/..%2fadmin", 400, None),
        ("/public/%2e%2e/admin", 401, None),
        ("/public/../admin", 401, None),
        ("//admin", 401, None),
        ("/./admin/", 401, None),
        ("/%61dmin", 401, None),
        ("/public//../admin/x", 401, None),
        ("/x/%2e/admin", 401, None),
        ("/public/..;/admin", 400, None),
        ("/public/%5c..%5cadmin", 400, None),
        ("/public/%00", 400, None),
        ("/public/%c0%ae%c0%ae/admin", 400, None),
        ("/public/%252e%252e/admin", 200, b"/files/%252e%252e/admin"),
        ("/public/a%0d%0ax:%20y", 400, None),
        ("http://other.example/public/../admin", 401, None),
    ],
)
async def test_one_path_is_matched_authorised_and_forwarded(
    guarded: Rig, target: str, status: int, sent: bytes | None
) -> None:
    """Rows 42 and 43: no spelling gets past a rule, and what is decoded is not decoded again."""
    assert (await guarded.get(target)).status == status
    lines = [received.line for received in guarded.services[0].received]
    assert lines == ([] if sent is None else [b"GET " + sent + b" HTTP/1.1"])


async def test_a_request_that_goes_in_a_circle_is_stopped() -> None:
    """Row 44: a route whose service is a gateway like this one."""
    async with rig(Service(), routes=(Route(service="shop", rewrite="/again"),)) as r:
        hops = ", ".join(["1.1 seawall"] * 5)
        assert (await r.get("/", f"via: {hops}")).status == 508
        assert r.services[0].received == []


async def test_the_routes_page_tells_what_a_route_does() -> None:
    routes = (
        Route(path="/a/{id}", exact=True, redirect=Redirect(path="/b/{id}")),
        Route(path="/[0-9]+", regex=True, respond=Respond(status=404)),
        Route(
            service="shop",
            query={"v": "2"},
            cookies={"beta": "*"},
            request_headers=Edits(set={"authorization": "secret"}),
            host_rewrite="in.side",
        ),
    )
    async with (
        rig(Service(), routes=routes) as r,
        admin(r.gateway, Address("127.0.0.1", 0), clock=SYSTEM) as address,
    ):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /routes HTTP/1.1\r\nhost: a\r\n\r\n")
        text = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
    first, second, third = json.loads(text)
    assert (first["path_type"], first["service"]) == ("exact", None)
    assert first["redirect"]["path"] == "/b/{id}"
    assert (second["path_type"], second["respond"]) == ("regex", {"status": 404})
    assert (third["query"], third["cookies"]) == ({"v": "2"}, {"beta": "*"})
    assert third["request_headers"] == {"set": ["authorization"]}
    assert b"secret" not in text
