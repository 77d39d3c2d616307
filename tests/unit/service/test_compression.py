import gzip

import pytest

from seawall.service.compression import accepts_gzip, compress, compressible, packed, vary


@pytest.mark.parametrize(
    ("accept", "yes"),
    [
        (b"gzip", True),
        (b"br, GZIP;q=0.5", True),
        (b"*", True),
        (b"x-gzip", True),
        (b"", False),
        (b"br", False),
        (b"identity", False),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000, *", False),
        (b"*;q=0", False),
        (b"gzipped", False),
    ],
)
def test_accept_encoding(accept: bytes, yes: bool) -> None:
    assert accepts_gzip(accept) is yes


@pytest.mark.parametrize(
    ("status", "headers", "yes"),
    [
        (200, [(b"content-type", b"application/json")], True),
        (200, [(b"content-type", b"text/html; charset=utf-8")], True),
        (404, [(b"content-type", b"application/problem+json")], True),
        (200, [(b"content-type", b"image/png")], False),
        (200, [(b"content-type", b"text/event-stream")], False),
        (200, [], False),
        (204, [(b"content-type", b"text/plain")], False),
        (206, [(b"content-type", b"text/plain")], False),
        (304, [(b"content-type", b"text/plain")], False),
        (200, [(b"content-type", b"text/plain"), (b"content-encoding", b"br")], False),
        (200, [(b"content-type", b"text/plain"), (b"cache-control", b"No-Transform")], False),
    ],
)
def test_what_is_worth_it(status: int, headers: list[tuple[bytes, bytes]], yes: bool) -> None:
    assert compressible(status, headers) is yes


def test_vary_is_said_once() -> None:
    assert vary([]) == [(b"vary", b"accept-encoding")]
    assert vary([(b"vary", b"Origin")]) == [(b"vary", b"Origin, accept-encoding")]
    for said in (b"*", b"Accept-Encoding"):
        assert vary([(b"vary", said)]) == [(b"vary", said)]


def test_headers_of_the_compressed() -> None:
    before = [(b"content-length", b"5000"), (b"etag", b'"a"'), (b"x", b"y")]
    assert packed(before, 40) == [
        (b"content-length", b"40"),
        (b"etag", b'W/"a"'),
        (b"x", b"y"),
        (b"content-encoding", b"gzip"),
    ]
    assert packed([(b"etag", b'W/"a"')], 1)[0] == (b"etag", b'W/"a"')


def test_it_is_gzip() -> None:
    body = b"abc" * 1000
    assert gzip.decompress(compress(body)) == body
    assert compress(body) == compress(body)
