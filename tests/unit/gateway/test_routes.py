from random import Random

import pytest

from seawall.errors import Misconfigured
from seawall.gateway.config import Route
from seawall.gateway.routes import Routes, rewritten
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
    table = routes._any
    assert table.deepest == 2


@pytest.mark.parametrize(
    ("route", "path", "sent"),
    [
        (Route(service="a", path="/api"), b"/api/x", b"/api/x"),
        (Route(service="a", path="/api", rewrite="/"), b"/api/x", b"/x"),
        (Route(service="a", path="/api", rewrite="/"), b"/api", b"/"),
        (Route(service="a", path="/api", rewrite="/v1"), b"/api/x/", b"/v1/x/"),
        (Route(service="a", path="/", rewrite="/v1"), b"/x", b"/v1/x"),
        (Route(service="a", path="/api/", rewrite="/v1/"), b"/api/x", b"/v1/x"),
        (Route(service="a", path="/api", exact=True, rewrite="/x"), b"/api", b"/x"),
    ],
)
def test_the_matched_part_is_rewritten(route: Route, path: bytes, sent: bytes) -> None:
    assert rewritten(route, path) == sent


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
    ],
)
def test_a_route_that_cannot_match_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        Route(service="a", **wrong)  # type: ignore[arg-type]
