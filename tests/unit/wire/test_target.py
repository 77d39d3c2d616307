import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.wire.target import (
    PLAIN,
    BadTarget,
    canonical,
    host_name,
    split_target,
    split_url,
    walks_plain,
)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/orders/7", b"/orders/7", b""),
        (b"/orders/7/", b"/orders/7/", b""),
        (b"/orders?a=1&b=%2F", b"/orders", b"?a=1&b=%2F"),
        (b"/orders?", b"/orders", b"?"),
        (b"/orders?a?b", b"/orders", b"?a?b"),
        (b"/%6frders", b"/orders", b""),
        (b"/a%20b", b"/a%20b", b""),
        (b"/a%c3%a9", b"/a%C3%A9", b""),
        (b"/a//b", b"/a/b", b""),
        (b"//a", b"/a", b""),
        (b"/a/./b/../c", b"/a/c", b""),
        (b"/a/%2e%2e/b", b"/b", b""),
        (b"/a/..", b"/", b""),
        (b"/a/b/.", b"/a/b/", b""),
        (b"/.well-known/x", b"/.well-known/x", b""),
        (b"/a;x=1", b"/a;x=1", b""),
        (b"/a|b?c=[1]|{2}", b"/a|b", b"?c=[1]|{2}"),
        (b"/...", b"/...", b""),
        (b"/.well;x", b"/.well;x", b""),
        (b"/...;x", b"/...;x", b""),
    ],
)
def test_a_target_has_one_canonical_path(target: bytes, path: bytes, query: bytes) -> None:
    assert split_target(target) == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"orders",
        b"/..",
        b"/a/../..",
        b"/%2e%2e/admin",
        b"/public/..%2fadmin",
        b"/public%2Fadmin",
        b"/a%5cb",
        b"/a\\b",
        b"/a%00",
        b"/a%0d%0ab",
        b"/a%7f",
        b"/a/..;/b",
        b"/a/.;x=1/b",
        b"/a/..%3bx/b",
        b"/a/%2e%2e;/b",
        b"/a%",
        b"/a%2",
        b"/a%zz",
        b"/a%+1",
        b"/a%c0%af",
        b"/a%ff",
        b"/a#b",
        b"/a b",
        b"/a?b c",
        b"/a?b#c",
        b"/\xc3\xa9",
        b'/a"b',
        b"/a<b>",
        b"/a?\x7f",
        b"/a{b}",
    ],
)
def test_what_has_no_single_meaning_is_refused(target: bytes) -> None:
    with pytest.raises(BadTarget):
        split_target(target)


@given(st.binary(max_size=60).map(lambda tail: b"/" + tail))
def test_the_canonical_path_is_canonical(target: bytes) -> None:
    try:
        path, query = split_target(target)
    except BadTarget:
        return
    assert canonical(path) == path
    assert split_target(path + query) == (path, query)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        (b"http://shop.example/a?b", (b"shop.example", b"/a", b"?b")),
        (b"http://shop.example", (b"shop.example", b"/", b"")),
        (b"http://shop.example?b/c", (b"shop.example", b"/", b"?b/c")),
        (b"HTTP://shop.example:80/", (b"shop.example:80", b"/", b"")),
    ],
)
def test_an_absolute_target_is_split(url: bytes, parts: tuple[bytes, bytes, bytes]) -> None:
    assert split_url(url) == parts


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"Shop.Example:8080", b"shop.example"),
        (b"shop.example.", b"shop.example"),
        (b"127.0.0.1", b"127.0.0.1"),
        (b"[::1]:80", b"[::1]"),
        (b"localhost", b"localhost"),
        (b"my_host", b"my_host"),
        (b"", None),
        (b":80", None),
        (b"a b", None),
        (b"a/b", None),
        (b"a,b", None),
        (b"user@host", None),
        (b"host:port", None),
        (b"host:123456", None),
        (b"[::1", None),
        (b"a..b", None),
        (b"-a", None),
    ],
)
def test_a_host_is_a_host(value: bytes, name: bytes | None) -> None:
    assert host_name(value) == name


@given(st.lists(st.sampled_from([b"/", b"a", b".", b"%61", b"?", b" ", b";", b"Z-_~|[]", b"\xff"])))
def test_both_ways_to_see_that_a_path_is_plain_agree(parts: list[bytes]) -> None:
    path = b"".join(parts)
    assert walks_plain(path) == (PLAIN.fullmatch(path) is not None)
