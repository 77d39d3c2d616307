import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.gateway.actions import Edits, Respond
from seawall.gateway.config import Route
from seawall.gateway.paths import beginning
from seawall.gateway.routes import MAX_PATTERNS, Routes, beginning_of, walked_beginning
from seawall.wire.http1 import RequestHead, scan_request


def head(path: str = "/", host: str = "a", method: str = "GET", *fields: str) -> RequestHead:
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *fields, "", ""]
    data = "\r\n".join(lines).encode()
    return scan_request(data, len(data))


def taken(routes: list[Route], request: RequestHead) -> str | None:
    found = Routes(routes, lambda route: route.service).find(request)
    return None if found is None else found.value


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/", "root"),
        ("/orders", "exact"),
        ("/orders/", "orders"),
        ("/orders/7", "orders"),
        ("/orders/7/items/1", "items"),
        ("/ordersheet", "root"),
        ("/a/b/c/d/e/f/g/h", "root"),
    ],
)
def test_exact_comes_before_the_longest_prefix(path: str, service: str) -> None:
    routes = [
        Route(service="root"),
        Route(service="orders", path="/orders"),
        Route(service="items", path="/orders/7/items"),
        Route(service="exact", path="/orders", exact=True),
    ]
    for seed in range(5):
        Random(seed).shuffle(routes)
        assert taken(routes, head(path)) == service


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("shop.example", "exact"),
        ("SHOP.example:8080", "exact"),
        ("a.shop.example", "wild-shop"),
        ("a.b.shop.example", "wild-shop"),
        ("other.example", "wild"),
        ("example", "any"),
        ("shop.example.org", "any"),
    ],
)
def test_the_most_specific_host_is_taken(host: str, service: str) -> None:
    routes = [
        Route(service="any", path="/x"),
        Route(service="wild", host="*.example"),
        Route(service="wild-shop", host="*.shop.example"),
        Route(service="exact", host="Shop.Example"),
    ]
    assert taken(routes, head("/x", host)) == service


def test_a_host_without_the_path_falls_through_to_a_less_specific_one() -> None:
    routes = [Route(service="any"), Route(service="exact", host="a", path="/x")]
    assert taken(routes, head("/y", "a")) == "any"


def test_method_then_more_headers_then_the_earlier_route() -> None:
    routes = [
        Route(service="plain"),
        Route(service="later"),
        Route(service="canary", headers={"X-Canary": "yes"}),
        Route(service="both", headers={"x-canary": "yes", "x-beta": "*"}),
        Route(service="post", methods=("post",)),
    ]
    assert taken(routes, head()) == "plain"
    assert taken(routes, head("/", "a", "GET", "x-canary: yes")) == "canary"
    assert taken(routes, head("/", "a", "GET", "x-canary: no")) == "plain"
    assert taken(routes, head("/", "a", "GET", "X-Canary: yes", "X-Beta: 1")) == "both"
    assert taken(routes, head("/", "a", "POST", "x-canary: yes")) == "post"


def test_no_route_is_none() -> None:
    assert taken([], head()) is None
    assert taken([Route(service="a", path="/a")], head("/b")) is None
    assert taken([Route(service="a", methods=("PUT",))], head("/b")) is None
    assert taken([Route(service="a", host="*.b")], head("/", "b")) is None


def test_the_work_does_not_grow_with_the_routes_nor_the_path() -> None:
    routes = Routes([Route(service="a", path=f"/r{n}/x") for n in range(10_000)], lambda r: None)
    deep = head("/r77/x" + "/y" * 2000)
    found = routes.find(deep)
    assert found is not None
    assert found.route.path == "/r77/x"
    assert routes._any._deepest == 2


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/orders/7", "order"),
        ("/orders/new", "new"),
        ("/orders/7/", "orders"),
        ("/orders/7/items", "items"),
        ("/orders/7/items/1", "items"),
        ("/orders/new/items", "items"),
        ("/orders/7/notes", "orders"),
        ("/orders", "orders"),
        ("/orders/", "orders"),
        ("/carts/7", "carts"),
        ("/", "root"),
    ],
)
def test_a_parameter_is_one_segment_and_comes_after_a_literal(path: str, service: str) -> None:
    routes = [
        Route(service="root"),
        Route(service="carts", path="/{what}/{id}", exact=True),
        Route(service="orders", path="/orders"),
        Route(service="order", path="/orders/{id}", exact=True),
        Route(service="new", path="/orders/new", exact=True),
        Route(service="items", path="/orders/{id}/items"),
    ]
    for seed in range(5):
        Random(seed).shuffle(routes)
        assert taken(routes, head(path)) == service


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/orders/7", "number"),
        ("/orders/77", "two"),
        ("/orders/x", "orders"),
        ("/orders/8", "deeper"),
        ("/orders/8/x", "deeper"),
        ("/orders/9", "exact"),
        ("/other", "anything"),
        ("/", "root"),
    ],
)
def test_a_pattern_is_as_specific_as_its_literal_segments(path: str, service: str) -> None:
    routes = [
        Route(service="root"),
        Route(service="anything", path="/[a-z]+", regex=True),
        Route(service="orders", path="/orders"),
        Route(service="number", path="/orders/[0-9]+", regex=True),
        Route(service="two", path="/orders/(?:[0-9][0-9])", regex=True),
        Route(service="deeper", path="/orders/8"),
        Route(service="exact", path="/orders/9", exact=True),
    ]
    for seed in range(5):
        Random(seed).shuffle(routes)
        assert taken(routes, head(path)) == service


def test_query_and_cookie_predicates() -> None:
    routes = [
        Route(service="plain"),
        Route(service="cookie", cookies={"beta": "yes"}),
        Route(service="query", query={"v": "2"}),
        Route(service="both", query={"v": "2", "q": "*"}),
        Route(service="header", headers={"x-beta": "*"}),
    ]
    assert taken(routes, head("/")) == "plain"
    assert taken(routes, head("/?v=1")) == "plain"
    assert taken(routes, head("/?a=b&v=2")) == "query"
    assert taken(routes, head("/?%76=%32")) == "query"
    assert taken(routes, head("/?v=1&v=2")) == "query"
    assert taken(routes, head("/?v=2&q")) == "both"
    assert taken(routes, head("/?v=2&q", "a", "GET", "x-beta: 1")) == "header"
    assert taken(routes, head("/", "a", "GET", "cookie: a=b; beta=yes")) == "cookie"
    assert taken(routes, head("/", "a", "GET", "cookie: beta=yes", "cookie: beta=no")) == "cookie"
    assert taken(routes, head("/", "a", "GET", "cookie: beta=no")) == "plain"
    assert taken(routes, head("/?v=2", "a", "GET", "cookie: beta=yes")) == "query"


def test_options_about_the_whole_server_take_the_root_route() -> None:
    routes = [Route(service="root"), Route(service="a", path="/{x}")]
    assert taken(routes, head("*", "a", "OPTIONS")) == "root"


def test_many_routes_of_one_path_are_indexed() -> None:
    routes = [
        *(Route(service=f"t{n}", headers={"x-tenant": str(n)}) for n in range(5_000)),
        *(Route(service=f"q{n}", query={"tenant": str(n)}) for n in range(5_000)),
        Route(service="t7-post", headers={"x-tenant": "7"}, methods=("POST",)),
        Route(service="any"),
    ]
    compiled = Routes(routes, lambda route: route.service)

    def service(request: RequestHead) -> str | None:
        found = compiled.find(request)
        return None if found is None else found.value

    assert service(head("/x", "a", "GET", "x-tenant: 4999")) == "t4999"
    assert service(head("/?tenant=12")) == "q12"
    assert service(head("/?tenant=12", "a", "GET", "x-tenant: 7")) == "t7"
    assert service(head("/", "a", "POST", "x-tenant: 7")) == "t7-post"
    assert service(head("/", "a", "GET", "x-tenant: 5000")) == "any"
    # What a request of one of them asks is as much as if there were no others.
    choice = compiled._any._root.prefix
    assert choice is not None
    assert len(choice._candidates(head("/?tenant=12", "a", "GET", "x-tenant: 7"))) == 4


def crossing(number: int) -> str:
    """A path of eight segments, each a parameter where `number` has a bit."""
    return "".join(f"/{{p{bit}}}" if number >> bit & 1 else "/s" for bit in range(8))


@pytest.mark.parametrize(
    "routes",
    [
        [Route(service="a", headers={f"x-{n}": "*"}) for n in range(100)],
        [Route(service="a", headers={f"x-{n}": "1"}) for n in range(100)],
        [Route(service="a", path=f"/[a-z]+{n}", regex=True) for n in range(MAX_PATTERNS + 1)],
        [Route(service="a", path=crossing(number)) for number in range(256)],
    ],
    ids=["presence", "names", "patterns", "ways"],
)
def test_what_cannot_be_looked_up_quickly_is_refused(routes: list[Route]) -> None:
    with pytest.raises(Misconfigured):
        Routes(routes, lambda route: None)


def test_ten_thousand_routes_of_every_kind_cost_what_their_depth_does() -> None:
    """Not timed: the nodes that a request passes are counted."""
    routes = [
        *(Route(service="a", path=f"/p{n}/{{id}}/x") for n in range(3_000)),
        *(Route(service="a", path=f"/r{n}/[0-9]+", regex=True) for n in range(1_000)),
        *(Route(service="a", path=f"/e{n}", exact=True) for n in range(3_000)),
        *(Route(service="a", path=f"/o{n}", host=f"h{n}.example") for n in range(3_000)),
    ]
    compiled = Routes(routes, lambda route: None)
    assert compiled._any._root.ways() <= 4
    for path in ("/p2999/7/x/y", "/r999/7", "/e2999"):
        assert compiled.find(head(path)) is not None
    found = compiled.find(head("/o2999", "h2999.example"))
    assert found is not None
    assert found.route.path == "/o2999"


# The naive reference: every route is asked, and the best by the documented order is taken.

SEGMENTS = st.sampled_from(["a", "b", "{x}"])
PATTERNS = ["/a/.*", "/[ab]+", "/a/b/[a-z]+", "/.*/b", "/(a|b)/aa", "/b/", "/aa", ".*"]
FLAGS = st.one_of(
    st.just({}),
    st.just({}),
    st.just({}),
    st.dictionaries(st.sampled_from("pq"), st.sampled_from(["1", "2", "*"]), max_size=2),
)


@st.composite
def any_route(draw: st.DrawFn) -> Route:
    regex = draw(st.integers(0, 4)) == 0
    parts = draw(st.lists(SEGMENTS, max_size=3))
    named = [part.replace("x", f"x{number}") for number, part in enumerate(parts)]
    path = "/" + "/".join(named)
    if named and draw(st.booleans()):
        path += "/"
    return Route(
        service="a",
        path=draw(st.sampled_from(PATTERNS)) if regex else path,
        regex=regex,
        exact=not regex and draw(st.booleans()),
        host=draw(st.sampled_from(["", "", "", "", "h.x", "*.x", "*.h.x"])),
        methods=draw(st.sampled_from([(), (), (), ("GET",), ("POST", "PUT")])),
        headers=draw(FLAGS),
        query=draw(FLAGS),
        cookies=draw(FLAGS),
    )


@st.composite
def any_request(draw: st.DrawFn) -> RequestHead:
    parts = draw(st.lists(st.sampled_from(["a", "a", "b", "b", "aa"]), max_size=4))
    path = "/" + "/".join(parts) + ("/" if parts and draw(st.booleans()) else "")
    said = draw(FLAGS)
    query = draw(FLAGS)
    cookies = draw(FLAGS)
    return head(
        path + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else ""),
        draw(st.sampled_from(["h.x", "x", "g.x", "g.h.x"])),
        draw(st.sampled_from(["GET", "POST", "DELETE"])),
        *(f"{k}: {v}" for k, v in said.items()),
        *(f"cookie: {k}={v}" for k, v in cookies.items()),
    )


def fits_host(route: Route, host: str) -> bool:
    return route.host in ("", host) or (
        route.host.startswith("*") and host.endswith(route.host[1:]) and host != route.host[2:]
    )


def fits_path(route: Route, path: str) -> bool:
    if route.regex:
        return re.fullmatch(route.path, path) is not None
    wanted, given = route.path.split("/")[1:], path.split("/")[1:]
    if not route.exact:
        wanted = route.path.rstrip("/").split("/")[1:]
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(
        bool(b) if a.startswith("{") else a == b for a, b in zip(wanted, given, strict=True)
    )


def fits_rest(route: Route, request: RequestHead) -> bool:
    def values(name: str, fields: list[bytes]) -> list[str]:
        pairs = [field.decode().partition("=") for field in fields]
        return [value for key, _, value in pairs if key == name]

    said = {
        "headers": lambda name: [value.decode() for value in request.values(name.encode())],
        "query": lambda name: values(name, request.query[1:].split(b"&")),
        "cookies": lambda name: values(name, request.values(b"cookie")),
    }
    return (not route.methods or request.method.decode() in route.methods) and all(
        ask(name) and (wanted == "*" or wanted in ask(name))
        for kind, ask in said.items()
        for name, wanted in getattr(route, kind).items()
    )


def precedence(routes: list[Route], number: int) -> tuple[object, ...]:
    route = routes[number]
    alike = [other for other in routes if other.regex and other.host == route.host]
    first = min([n for n, o in enumerate(routes) if o in alike and o.path == route.path], default=0)
    parts = route.path.split("/")[1:] if route.exact else route.path.rstrip("/").split("/")[1:]
    if route.regex:
        parts = beginning(route.path)
    kinds = tuple(part.startswith("{") for part in parts)
    place: tuple[object, ...] = (0, kinds)
    if not route.exact:
        by_pattern = (0, -len(route.path), first) if route.regex else (1, 0, 0)
        place = (1, -len(parts), kinds, by_pattern)
    return (
        (not route.host or route.host.startswith("*"), -len(route.host)),
        place,
        not route.methods,
        -len(route.headers),
        -len(route.query),
        -len(route.cookies),
        number,
    )


@settings(max_examples=200)
@given(st.lists(any_route(), min_size=1, max_size=20), any_request())
def test_the_tables_take_what_asking_every_route_takes(
    routes: list[Route], request: RequestHead
) -> None:
    fitting = [
        number
        for number, route in enumerate(routes)
        if fits_host(route, request.host.decode())
        and fits_path(route, request.path.decode())
        and fits_rest(route, request)
    ]
    wanted = min(fitting, key=lambda number: precedence(routes, number), default=None)
    found = Routes(routes, lambda route: None).find(request)
    assert (None if found is None else found.order) == wanted


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "orders"},
        {"path": "/a/../b"},
        {"path": "/a//b"},
        {"path": "/a%2fb"},
        {"path": "/é"},
        {"rewrite": "v1"},
        {"host": "a.*.b"},
        {"scopes": ("x",)},
        {"service": ""},
        {"respond": Respond()},
        {"path": "/a{id}"},
        {"path": "/{id"},
        {"path": "/{1}"},
        {"path": "/{id}/{id}"},
        {"path": "/a" * 65},
        {"path": "".join(f"/{{p{number}}}" for number in range(17))},
        {"path": "/{id}", "rewrite": "/" + "{id}" * 17},
        {"rewrite": "/{id}"},
        {"path": "/{id}", "rewrite": "/{other}"},
        {"path": "/(", "regex": True},
        {"path": r"/(a)\1", "regex": True},
        {"path": "/[a-z]{1,900}", "regex": True},
        {"path": "/é", "regex": True},
        {"path": "/a", "regex": True, "exact": True},
        {"path": "/(?P<id>a)", "regex": True, "rewrite": "/{other}"},
        {"host_rewrite": "a b"},
        {"service": "", "respond": Respond(), "rewrite": "/x"},
        {"request_headers": Edits(set={"Host": "x"})},
        {"request_headers": Edits(remove=("content-length",))},
        {"request_headers": Edits(add={"x-forwarded-for": "1"})},
        {"request_headers": Edits(add={"X_Identity_Subject": "root"})},
        {"request_headers": Edits(add={"connection": "x"})},
        {"request_headers": Edits(add={"x a": "1"})},
        {"response_headers": Edits(set={"x": "a\r\nb: c"})},
        {"response_headers": Edits(set={"x-request-id": "1"})},
        {"response_headers": Edits(set={"transfer-encoding": "chunked"})},
        {"upgrades": ("websocket", "H2C")},
    ],
)
def test_a_route_that_cannot_match_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        Route(**{"service": "a", **wrong})  # type: ignore[arg-type]


def test_a_route_may_say_what_no_client_may() -> None:
    edits = Edits(set={"X-User-Id": "7", "x-forwarded-prefix": "/a"}, remove=("range",))
    assert Route(service="a", request_headers=edits).request_headers == edits


@given(
    path=st.lists(st.sampled_from([b"", b"a", b"bc"]), max_size=6).map(
        lambda parts: b"/" + b"/".join(parts)
    ),
    count=st.integers(0, 5),
)
def test_the_beginning_of_a_path_is_found_alike_in_both_ways(path: bytes, count: int) -> None:
    assert beginning_of(path, count) == walked_beginning(path, count)
    assert b"/".join(path.split(b"/")[: count + 1]) == beginning_of(path, count)
