import pytest

from seawall.errors import Misconfigured
from seawall.gateway.config import Route
from seawall.gateway.cors import Cors, Origins, Policy
from seawall.gateway.routes import Routes
from seawall.wire.http1 import RequestHead, scan_request


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (("https://shop.example",), b"https://shop.example", True),
        (("https://Shop.Example",), b"https://shop.example", True),
        (("https://shop.example",), b"http://shop.example", False),
        (("https://shop.example",), b"https://shop.example:8443", False),
        (("https://shop.example:8443",), b"https://shop.example:8443", True),
        (("https://shop.example",), b"https://shop.example.evil.example", False),
        (("https://*.shop.example",), b"https://a.shop.example", True),
        (("https://*.shop.example",), b"https://a.b.shop.example", True),
        (("https://*.shop.example",), b"https://shop.example", False),
        (("https://*.shop.example",), b"https://.shop.example", False),
        (("https://*.shop.example",), b"https://evilshop.example", False),
        (("https://*.shop.example",), b"https://evil.example/.shop.example", False),
        (("https://*.shop.example",), b"https://evil.example:1@a.shop.example", False),
        (("https://*.shop.example",), b"https://a.shop.example:1", False),
        (("https://*.shop.example:1",), b"https://a.shop.example:1", True),
        (("https://shop.example",), b"null", False),
        (("https://shop.example",), b"", False),
        (("*",), b"null", True),
    ],
)
def test_origins(origins: tuple[str, ...], origin: bytes, allowed: bool) -> None:
    assert Origins(origins).allows(origin) is allowed


@pytest.mark.parametrize(
    "wrong",
    [
        {"origins": ()},
        {"origins": ("*",), "credentials": True},
        {"origins": ("https://shop.example", "*"), "credentials": True},
        {"origins": ("shop.example",)},
        {"origins": ("https://shop.example/",)},
        {"origins": ("https://*",)},
        {"origins": ("https://a.*.example",)},
        {"origins": ("null",)},
        {"origins": ("*",), "headers": ("x y",)},
        {"origins": ("*",), "methods": ("G\r\nT",)},
        {"origins": ("*",), "max_age": -1},
    ],
)
def test_what_allows_nothing_or_too_much_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        Cors(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_an_answer_names_the_origin_and_that_it_depends_on_it() -> None:
    policy = Policy(Cors(origins=("https://a.example",), expose=("x-total",), credentials=True), ())
    assert policy.answer([b"https://a.example"]) == {
        "access-control-allow-origin": "https://a.example",
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "x-total",
        "vary": "origin",
    }
    for others in ([], [b"https://b.example"], [b"https://a.example", b"https://a.example"]):
        assert policy.answer(others) == {"vary": "origin"}


def test_an_answer_to_everybody_depends_on_nothing() -> None:
    policy = Policy(Cors(origins=("*",)), ())
    assert policy.answer([b"https://a.example"]) == {"access-control-allow-origin": "*"}


def test_a_preflight_is_told_methods_and_fields() -> None:
    named = Policy(Cors(origins=("*",), headers=("x-a", "x-b"), max_age=5), ("PUT",))
    assert named.preflight([b"null"], [b"x-c"]) == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "PUT",
        "access-control-allow-headers": "x-a, x-b",
        "access-control-max-age": "5",
    }
    any_field = Policy(Cors(origins=("*",), headers=("*",), methods=("GET",)), ("PUT",))
    told = any_field.preflight([b"null"], [b"authorization", b"x y", b"x-c"])
    assert told["access-control-allow-headers"] == "authorization, x-c"
    assert told["access-control-allow-methods"] == "GET"
    no_field = Policy(Cors(origins=("*",)), ()).preflight([b"null"], [b"x-c"])
    assert "access-control-allow-headers" not in no_field
    assert "DELETE" in no_field["access-control-allow-methods"]


def asks(method: str, *fields: str) -> RequestHead:
    data = "\r\n".join([f"{method} /a HTTP/1.1", "host: a", *fields, "", ""]).encode()
    return scan_request(data, len(data))


PREFLIGHT = ("origin: https://a.example", "access-control-request-method: PUT")


def test_a_preflight_goes_where_its_request_would_go() -> None:
    cors = Cors(origins=("*",))
    routes = Routes(
        [
            Route(service="read", path="/a", methods=("GET",), cors=cors),
            Route(service="write", path="/a", methods=("PUT",), cors=cors),
            Route(service="rest", path="/"),
        ],
        lambda route: route.service,
    )

    def found(method: str, *fields: str) -> str:
        head = asks(method, *fields)
        entry = routes.find(head)
        assert head.method == method.encode()
        return "" if entry is None else entry.value

    assert found("OPTIONS", *PREFLIGHT) == "write"
    assert found("OPTIONS", PREFLIGHT[0], "access-control-request-method: GET") == "read"
    # Without CORS a preflight is a request like others, and so is OPTIONS that is none.
    assert found("OPTIONS", PREFLIGHT[0], "access-control-request-method: DELETE") == "rest"
    assert found("OPTIONS", PREFLIGHT[0], "access-control-request-method: OPTIONS") == "rest"
    assert found("OPTIONS", PREFLIGHT[1]) == "rest"
    assert found("OPTIONS") == "rest"
    assert found("PUT", *PREFLIGHT) == "write"
