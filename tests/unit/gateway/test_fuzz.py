"""Made-up and mutated messages: every cut reads the same, and nobody else reads them differently.

What the gateway sends on is read by h11 and by llhttp exactly as the gateway meant it, and what it
accepts they read alike, as far as they accept it. The examples are the same in each run; for more,
and others in each run: SEAWALL_FUZZ_EXAMPLES=100000 pytest tests/unit/gateway/test_fuzz.py
"""

import os
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from seawall.wire.chunked import Chunked
from seawall.wire.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    BadMessage,
    head_end,
    scan_request,
    scan_response,
)
from tests.support.readers import (
    answers_by_h11,
    answers_by_llhttp,
    requests_by_h11,
    requests_by_llhttp,
)
from tests.support.wires import Pair

EXAMPLES = int(os.environ.get("SEAWALL_FUZZ_EXAMPLES", "0"))
FUZZ = settings(
    max_examples=EXAMPLES or 200,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
pytestmark = pytest.mark.timeout(0 if EXAMPLES else 90)

NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"

# a grammar whose words are mostly right


def mostly(right: Sequence[bytes], wrong: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A word of `right` nineteen times in twenty."""
    often = 19 * max(len(wrong), 1) // len(right) or 1
    return st.sampled_from([*wrong, *right * often])


LINE_END = mostly([b"\r\n"], [b"\n", b"\r", b"\r\r\n", b"\r\n ", b" \r\n", b"\x00\r\n"])
NAMES = st.sampled_from(
    b"content-length Content-Length transfer-encoding Transfer-Encoding TRANSFER-ENCODING "
    b"Transfer_Encoding Content_Length connection Connection expect host te trailer upgrade "
    b"keep-alive x accept content-encoding transfer-encoding-x".split()
)
COLON = mostly([b": ", b":", b":\t", b":  "], [b" : ", b"\t:", b":\x0b", b":\r\n ", b"", b"::"])
VALUES = mostly(
    b"5 05 0 3 chunked Chunked close keep-alive a 100-continue gzip".split(),
    [
        b"+5", b"-5", b"0x5", b"5,5", b"5, 5", b"5 5", b"", b"chunked,", b",chunked", b"x,chunked",
        b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked;q=1", b'"chunked"',
        b"identity", b"xchunked", b"chunked\x0b", b"content-length", b"transfer-encoding, close",
        b"upgrade", b"99999999999999999999", b"5\x00", b"5\r", b"\xb2", b"18446744073709551621",
    ],
)  # fmt: skip
FRAMING = st.sampled_from(
    [b"content-length: 5", b"Content-Length: 05 ", b"transfer-encoding: chunked",
     b"Transfer-Encoding:\tChunked"]
)  # fmt: skip
FIELD = FRAMING | st.tuples(NAMES, COLON, VALUES, mostly([b""], [b" ", b"\t", b"\x00"])).map(
    b"".join
)
SIZE = mostly(
    [b"5", b"05", b"5;a=b", b'5;a="b;c"', b"0005"],
    [b"5 ", b" 5", b"0x5", b"+5", b"-5", b"6", b"4", b"", b"5;", b"5;a=", b"5;\x00", b"5\t",
     b"FFFFFFFFFFFFFFFFF", b"5;a\n", b"5_0", b"5;a=\xff"],
)  # fmt: skip
CHUNK = st.tuples(SIZE, LINE_END, mostly([b"hello"], [b"hell", b"hello!", b"0\r\n\r\n"]), LINE_END)
LAST = mostly(
    [b"0\r\n\r\n", b"00\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"0;a\r\n\r\n"],
    [b"", b"0\r\n", b"0\r\n\n", b"0\n\n", b"0\r\nx\r\n\r\n", b"0\r\ncontent-length: 5\r\n\r\n"],
)
CHUNKED_BODY = b"5;a\r\nhello\r\n0\r\nx: y\r\n\r\n"
BODY = (
    st.sampled_from([b"", b"hello", b"hel", CHUNKED_BODY, CHUNKED_BODY, b"0\r\n\r\n"])
    | st.tuples(st.lists(CHUNK.map(b"".join), max_size=3).map(b"".join), LAST).map(b"".join)
)  # fmt: skip
METHOD = mostly(b"GET POST PUT HEAD OPTIONS".split(), [b"get", b"CONNECT", b"G T", b"", b"PRI"])
TARGET = mostly(
    [b"/", b"/a?b=c", b"//a/../%62", b"/a%20b", b"http://b/x?y", b"*"],
    [b"/a b", b"/\xc3\xa9", b"/#", b"a", b"http://b@c/", b"//", b"/%2f", b"/\x01", b""],
)
VERSION = mostly([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"], [b"HTTP/1.2", b"http/1.1", b"HTTP/2.0"])


def message(first: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    fields = st.lists(st.tuples(FIELD, LINE_END).map(b"".join), max_size=4).map(b"".join)
    return st.tuples(first, LINE_END, fields, LINE_END, BODY).map(b"".join)


REQUEST_LINE = st.tuples(
    METHOD, mostly([b" "], [b"  ", b"\t"]), TARGET, st.just(b" "), VERSION, st.just(b"\r\nhost: a")
).map(b"".join)
STATUS_LINE = st.tuples(
    mostly([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"], [b"HTTP/1.2", b"HTTP/2", b"http/1.1"]),
    st.just(b" "),
    mostly([b"200", b"200", b"404", b"204", b"304"], [b"103", b"100", b"101", b"20", b"2000"]),
    mostly([b" OK", b" "], [b"", b"  \tOK", b" \xff", b" O\x00K"]),
).map(b"".join)
WORDS = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b"0", b"0\r\n\r\n", b";", b",",
     b"chunked", b"content-length: 7\r\n", b"transfer-encoding: chunked\r\n", b"GET / HTTP/1.1\r\n"]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> bytes:
    data = b"".join(draw(st.lists(messages, min_size=1, max_size=3)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        until = draw(st.integers(at, min(len(data), at + 3)))
        data = data[:at] + draw(WORDS | st.just(b"")) + data[until:]
    return data


REQUESTS = mutated(message(REQUEST_LINE))
ANSWERS = mutated(message(STATUS_LINE))
CUTS = st.lists(st.integers(0, 400), max_size=6)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    ends = sorted({cut for cut in cuts if 0 < cut < len(data)})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


# requests


def meant(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """The whole requests in `data` as our scanner reads them, up to one that is refused."""
    found = []
    try:
        while data:
            if data.startswith(b"\r\n"):
                data = data[2:]
            end = head_end(data)
            if end < 0:
                break
            head = scan_request(data, end)
            if not head.known_method:
                break  # no route names it: llhttp, which knows HTTP's methods only, is no measure
            data = data[end:]
            if head.body == CHUNKED:
                chunks = Chunked(unwrap=True)
                body, data = chunks.feed(data), chunks.surplus
                if not chunks.done:
                    break
            else:
                body, data = data[: head.body], data[head.body :]
                if len(body) < head.body:
                    break
            found.append((head.method, head.path + head.query, body))
            if not head.keep_alive:
                break
    except BadMessage:
        pass
    return found


def sent_on(data: bytes, cuts: Sequence[int] = ()) -> tuple[Pair, list[bytes]]:
    pair = Pair()
    sent = [one for piece in pieces(data, cuts) for one in pair.feed(piece, NOTHING)]
    assume(501 not in pair.statuses)  # refused for its method, not for its framing
    return pair, sent


@FUZZ
@given(REQUESTS)
def test_what_is_sent_on_is_read_as_it_was_meant(data: bytes) -> None:
    pair, sent = sent_on(data)
    expected = meant(data)
    assert len(sent) == len(expected)
    for one, message in zip(sent, expected, strict=True):
        for reading in (requests_by_h11(one), requests_by_llhttp(one)):
            assert reading.messages == [message]
            assert not reading.refused
            assert not reading.rest
    assert {200, 204, 100}.isdisjoint(pair.statuses) or expected or 100 in pair.statuses


@FUZZ
@given(REQUESTS)
def test_what_is_accepted_is_framed_alike_by_others(data: bytes) -> None:
    expected = meant(data)
    readings = [requests_by_h11(data), requests_by_llhttp(data)]
    for index, (method, _, body) in enumerate(expected):
        for reading in readings:
            if index < len(reading.messages):
                theirs = reading.messages[index]
                assert (theirs[0], theirs[2]) == (method, body)
        assert not all(
            reading.refused and len(reading.messages) <= index for reading in readings
        ), "both others refuse what we accept"


@FUZZ
@given(REQUESTS, CUTS)
def test_requests_do_not_depend_on_the_cuts(data: bytes, cuts: list[int]) -> None:
    whole, cut = sent_on(data), sent_on(data, cuts)
    assert cut[1] == whole[1]
    for pair in (cut[0], whole[0]):
        assert pair.is_at_rest() or not pair.is_over
    final = [[status for status in pair.statuses if status != 100] for pair in (cut[0], whole[0])]
    if whole[0].is_over:
        assert final[0] == final[1]
        assert cut[0].is_over


@FUZZ
@given(st.lists(SIZE | LINE_END | LAST | st.just(b"hello"), max_size=12).map(b"".join), CUTS)
def test_chunks_do_not_depend_on_the_cuts(data: bytes, cuts: list[int]) -> None:
    def read(cuts: Sequence[int], unwrap: bool) -> tuple[bytes, bytes, bool, int] | None:
        chunks = Chunked(unwrap=unwrap)
        out, behind = b"", b""
        try:
            for piece in pieces(data, cuts):
                if chunks.done:
                    behind += piece
                else:
                    out += chunks.feed(piece)
        except BadMessage:
            return None
        return out, chunks.surplus + behind, chunks.done, chunks.length

    for unwrap in (False, True):
        assert read(cuts, unwrap) == read((), unwrap) == read(range(len(data)), unwrap)


# answers


def answered(
    data: bytes, method: bytes, version: bytes, cuts: Sequence[int] = ()
) -> tuple[bytes, bool]:
    """What the client got, and whether it got a whole answer: the connection was not cut."""
    pair = Pair()
    pair.down.data_received(b"%b / HTTP/%b\r\nhost: a\r\n\r\n" % (method, version))
    for piece in pieces(data, cuts):
        if not pair.service.closed:
            pair.up.data_received(piece)
    if not pair.service.closed:
        pair.up.connection_lost(None)
    assume(pair.down.exchange is None)  # it was lost before its answer: tried again elsewhere
    assert pair.is_at_rest()
    return pair.client.data, not pair.client.aborted


def meant_answer(data: bytes, method: bytes) -> tuple[bytes, bytes] | None:
    """Status and body of the answer that counts, if it is whole and sound."""
    try:
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                return None
            head = scan_response(data, end, method)
            data = data[end:]
            if head.status >= 200 or head.status == 101:
                break
        status = b"%d" % head.status
        if head.body == CHUNKED:
            chunks = Chunked(unwrap=True)
            body = chunks.feed(data)
            return (status, body) if chunks.done else None
    except BadMessage:
        return None
    if head.body == UNTIL_CLOSE:
        return status, data
    return (status, data[: head.body]) if len(data) >= head.body else None


METHODS = st.sampled_from([b"GET", b"GET", b"POST", b"HEAD"])


@FUZZ
@given(ANSWERS, METHODS, st.sampled_from([b"1.1", b"1.1", b"1.0"]))
def test_answers_are_read_as_they_were_meant(data: bytes, method: bytes, version: bytes) -> None:
    expected = meant_answer(data, method)
    got, whole = answered(data, method, version)
    readings = [answers_by_h11(got, method, ended=whole)]
    if method != b"HEAD" and version == b"1.1":  # llhttp is not told of these
        readings.append(answers_by_llhttp(got))
    for reading in readings:
        assert not reading.refused or not whole
        final = [message for message in reading.messages if message[0] >= b"200"]
        assert len(final) == whole
        if whole and final[0][0] not in (b"502", b"503"):
            assert (final[0][0], final[0][2]) == expected
        elif not whole:
            assert expected is None


@FUZZ
@given(ANSWERS, METHODS, CUTS)
def test_answers_do_not_depend_on_the_cuts(data: bytes, method: bytes, cuts: list[int]) -> None:
    whole, cut = answered(data, method, b"1.1"), answered(data, method, b"1.1", cuts)
    # An answer that is found bad only behind its head is broken off, if its head has left already.
    if cut[1] and b" 502 " not in whole[0][:13]:
        bodies = [answers_by_h11(got, method, ended=True).messages for got, _ in (whole, cut)]
        assert bodies[0] == bodies[1]
        assert whole[1]
