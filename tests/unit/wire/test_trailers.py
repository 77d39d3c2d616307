from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.wire.chunked import MAX_TRAILERS, Chunked
from seawall.wire.headers import may_trail
from seawall.wire.http1 import BadMessage, scan_request

BODY = b"2;a=b\r\nok\r\n0\r\nX-Sum: 1\r\nHost: evil\r\nserver-timing: a\r\n\r\nGET"
KEPT = b"2\r\nok\r\n0\r\nX-Sum: 1\r\nserver-timing: a\r\n\r\n"


@given(st.lists(st.integers(0, len(BODY)), max_size=6))
def test_every_cut_keeps_the_same_trailers(cuts: list[int]) -> None:
    chunks = Chunked(trailers=True)
    out = b""
    edges = sorted({0, *cuts, len(BODY)})
    for begin, end in pairwise(edges):
        if chunks.done:
            break
        out += chunks.feed(BODY[begin:end])
    assert chunks.done
    assert out == KEPT
    assert b"GET".startswith(chunks.surplus)


@pytest.mark.parametrize("unwrap", [False, True])
def test_who_did_not_ask_gets_none(unwrap: bool) -> None:
    data = Chunked(unwrap=unwrap).feed(BODY)
    assert data == (b"ok" if unwrap else b"2\r\nok\r\n0\r\n\r\n")
    assert Chunked(unwrap=True, trailers=True).feed(BODY) == b"ok"


@pytest.mark.parametrize(
    "line", [b"no field", b"bad name: x", b"x: a\x00b", b": x", b"x: " + b"y" * MAX_TRAILERS]
)
def test_trailers_are_checked_for_those_too_who_asked(line: bytes) -> None:
    with pytest.raises(BadMessage):
        Chunked(trailers=True).feed(b"0\r\n" + line + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("name", "may"),
    [
        (b"X-Checksum", True),
        (b"grpc-status", True),
        (b"Server-Timing", True),
        (b"ETag", True),
        (b"Content-Length", False),
        (b"transfer-encoding", False),
        (b"Connection", False),
        (b"TE", False),
        (b"Host", False),
        (b"Authorization", False),
        (b"Set-Cookie", False),
        (b"X-Identity-Subject", False),
        (b"X_Identity_Subject", False),
        (b"X-Forwarded-For", False),
        (b"Forwarded", False),
        (b"X-User-Id", False),
        (b"X-Served-By", False),
        (b"Access-Control-Allow-Origin", False),
        (b"bad name", False),
    ],
)
def test_which_fields_may_stand_behind_a_body(name: bytes, may: bool) -> None:
    assert may_trail(name) is may


@pytest.mark.parametrize(
    ("fields", "wants"),
    [
        (b"te: trailers\r\nconnection: te", True),
        (b"TE: deflate, Trailers\r\nConnection: keep-alive, TE", True),
        (b"te: trailers", False),
        (b"te: deflate\r\nconnection: te", False),
        (b"connection: te", False),
    ],
)
def test_a_client_says_that_it_reads_trailers(fields: bytes, wants: bool) -> None:
    for version, wanted in ((b"1.1", wants), (b"1.0", False)):
        data = b"GET / HTTP/%b\r\nhost: a\r\n%b\r\n\r\n" % (version, fields)
        head = scan_request(data, len(data))
        assert head.trailers is wanted
        assert not head.has(b"te")
