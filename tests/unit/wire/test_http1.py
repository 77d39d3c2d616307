"""Rows of the table of bad inputs that a scanner decides; the rest is with the gateway."""

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seawall.wire import headers
from seawall.wire.chunked import MAX_CHUNK_LINE, Chunked
from seawall.wire.http1 import (
    CHUNKED,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_TARGET,
    UNTIL_CLOSE,
    BadMessage,
    RequestHead,
    ResponseHead,
    head_end,
    scan_request,
    scan_response,
    walked_request,
)


def request(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"host: a") -> bytes:
    fields = [host, *lines] if host else list(lines)
    return b"\r\n".join([line, *fields, b"", b""])


def scanned(data: bytes) -> RequestHead:
    end = head_end(data)
    assert end == data.find(b"\r\n\r\n") + 4
    return scan_request(data, end)


def status_of(data: bytes) -> int:
    """What a client would be told: 0 = the head is accepted, -1 = it is not whole."""
    try:
        end = head_end(data)
        if end < 0:
            return -1
        scan_request(data, end)
    except BadMessage as bad:
        return bad.status
    return 0


def test_a_request_is_taken_apart() -> None:
    head = scanned(
        request(
            b"Accept: */*",
            b"Connection: keep-alive, X-Hop",
            b"X-Hop: 1",
            b"x-forwarded-for: 1.2.3.4",
            b"X-Forwarded-For: 5.6.7.8",
            b"X-Identity-Subject: root",
            b"Content-Length: 5",
            line=b"POST /a%62?q=1 HTTP/1.1",
            host=b"Host: Shop:80",
        )
    )
    assert (head.method, head.path, head.query) == (b"POST", b"/ab", b"?q=1")
    assert (head.host, head.authority) == (b"shop", b"Shop:80")
    assert head.lines == [b"Host: Shop:80", b"Accept: */*", b"Content-Length: 5"]
    assert head.body == 5
    assert head.keep_alive
    assert head.boundary[headers.FORWARDED_FOR] == b"1.2.3.4, 5.6.7.8"
    assert head.values(b"accept") == [b"*/*"]
    assert head.has(b"accept")
    head.remove(b"accept")
    assert not head.has(b"accept")


@pytest.mark.parametrize(
    ("row", "data", "status"),
    [
        ("1 both framings", request(b"content-length: 5", b"transfer-encoding: chunked"), 400),
        ("2 two lengths", request(b"content-length: 5", b"content-length: 6"), 400),
        ("2 equal lengths", request(b"content-length: 5", b"content-length: 5"), 400),
        ("2 a list", request(b"content-length: 5, 6"), 400),
        ("3 plus", request(b"content-length: +5"), 400),
        ("3 minus", request(b"content-length: -1"), 400),
        ("3 hex", request(b"content-length: 0x5"), 400),
        ("3 inner space", request(b"content-length: 5 5"), 400),
        ("3 overflow", request(b"content-length: 18446744073709551616"), 400),
        ("3 empty", request(b"content-length:"), 400),
        ("3 unicode digits", request(b"content-length: \xd9\xa5"), 400),
        ("4 unknown coding", request(b"transfer-encoding: xchunked"), 501),
        ("4 chunked is not last", request(b"transfer-encoding: chunked, gzip"), 400),
        ("4 gzip alone", request(b"transfer-encoding: gzip"), 400),
        ("4 gzip before chunked", request(b"transfer-encoding: gzip, chunked"), 501),
        ("5 space before colon", request(b"transfer-encoding : chunked"), 400),
        ("6 vertical tab", request(b"transfer-encoding: \x0bchunked"), 400),
        ("6 form feed", request(b"transfer-encoding: chunked\x0c"), 400),
        ("6 quoted", request(b'transfer-encoding: "chunked"'), 501),
        ("6 twice", request(b"transfer-encoding: chunked", b"transfer-encoding: chunked"), 400),
        ("6 empty", request(b"transfer-encoding:"), 400),
        ("6 parameter", request(b"transfer-encoding: chunked;a=b"), 501),
        ("8 in 1.0", request(b"transfer-encoding: chunked", line=b"POST / HTTP/1.0"), 400),
        ("9 folded", request(b"a: b", b" c"), 400),
        ("9 folded first", b"GET / HTTP/1.1\r\n host: a\r\n\r\n", 400),
        ("10 bare CR", request(b"a: b\rc"), 400),
        ("11 bare LF", request(b"a: b\nc: d"), 400),
        ("11 bare LF only", b"GET / HTTP/1.1\nhost: a\n\n", 400),
        ("12 NUL", request(b"a: b\x00"), 400),
        ("12 DEL", request(b"a: b\x7f"), 400),
        ("13 bad name", request(b"a(b): c"), 400),
        ("13 empty name", request(b": c"), 400),
        ("13 no colon", request(b"abc"), 400),
        ("13 known name, no colon", request(b"Accept"), 400),
        ("14 blank line", b"GET / HTTP/1.1\r\n \r\nhost: a\r\n\r\n", 400),
        ("15 a large field", request(b"a: " + b"b" * 65536), 431),
        ("15 a large head", request(*[b"a: " + b"b" * 1000] * 20), 431),
        ("15 many fields", request(*[b"a: b"] * MAX_FIELDS), 431),
        ("16 a long target", request(line=b"GET /" + b"a" * MAX_TARGET + b" HTTP/1.1"), 414),
        ("16 a very long one", request(line=b"GET /" + b"a" * MAX_HEAD + b" HTTP/1.1"), 414),
        ("17 a huge method", request(line=b"A" * 40 + b" / HTTP/1.1"), 501),
        ("17 no method", request(line=b"G(T / HTTP/1.1"), 400),
        ("18 no Host", request(host=b""), 400),
        ("18 two Hosts", request(b"host: b"), 400),
        ("18 invalid Host", request(host=b"host: a b"), 400),
        ("18 empty Host", request(host=b"host:"), 400),
        ("20 CONNECT", request(line=b"CONNECT a:443 HTTP/1.1"), 501),
        ("20 authority form", request(line=b"GET a:443 HTTP/1.1"), 400),
        ("20 TRACE", request(line=b"TRACE / HTTP/1.1"), 405),
        ("21 asterisk", request(line=b"GET * HTTP/1.1"), 400),
        ("22 fragment", request(line=b"GET /#a HTTP/1.1"), 400),
        ("22 space", request(line=b"GET /a b HTTP/1.1"), 400),
        ("22 not ASCII", request(line="GET /é HTTP/1.1".encode()), 400),
        ("31 unknown Expect", request(b"expect: 200-ok"), 417),
        ("39 Connection names Host", request(b"connection: host"), 400),
        ("39 Connection names length", request(b"connection: content-length"), 400),
        ("42 encoded slash", request(line=b"GET /public/..%2fadmin HTTP/1.1"), 400),
        ("version 2", request(line=b"GET / HTTP/2.0"), 505),
        ("version", request(line=b"GET / HTTP/1"), 400),
        ("two spaces", request(line=b"GET  / HTTP/1.1"), 400),
        ("0.9", b"GET /\r\n\r\n", 400),
        ("https target", request(line=b"GET https://a/ HTTP/1.1"), 400),
        ("empty request line", b"\r\nhost: a\r\n\r\n", 400),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
    ],
)
def test_bad_heads_are_refused(row: str, data: bytes, status: int) -> None:
    assert status_of(data) == status


@pytest.mark.parametrize(
    "row", [b"a: \xff", b"a: \t b\t", b"a:", b"x-empty: ", b"expect: 100-Continue"]
)
def test_odd_but_sound_fields_are_accepted(row: bytes) -> None:
    assert status_of(request(row)) == 0


def test_the_limits_are_inclusive() -> None:
    assert status_of(request(*[b"a: b"] * (MAX_FIELDS - 1))) == 0
    target = b"/" + b"a" * (MAX_TARGET - 1)
    assert status_of(request(line=b"GET %b HTTP/1.1" % target)) == 0
    room = MAX_HEAD - len(request(b"a: ")) + 4
    assert status_of(request(b"a: " + b"b" * room)) == 0
    assert status_of(request(b"a: " + b"b" * (room + 1))) == 431


def test_an_absolute_target_says_whom() -> None:
    head = scanned(request(line=b"GET http://Other:81/x HTTP/1.1"))  # row 19
    assert (head.host, head.path) == (b"other", b"/x")
    assert head.lines == [b"host: Other:81"]
    assert status_of(request(line=b"GET http://a b/x HTTP/1.1")) == 400
    assert status_of(request(line=b"GET http:///x HTTP/1.1")) == 400


def test_hop_by_hop_fields_stay_on_their_hop() -> None:
    names = [b"TE: trailers", b"Keep-Alive: 5", b"Proxy-Connection: x", b"Proxy-Authorization: y"]
    assert scanned(request(*names)).lines == [b"host: a"]  # row 41


def test_the_connection_ends_as_it_was_asked_to() -> None:
    assert not scanned(request(b"connection: Close")).keep_alive
    assert not scanned(request(line=b"GET / HTTP/1.0")).keep_alive
    assert scanned(request()).keep_alive


def test_an_upgrade_needs_both_fields_and_no_body() -> None:
    fields = (b"connection: Upgrade", b"upgrade: Other")
    assert scanned(request(*fields)).upgrade == b"other"
    assert scanned(request(fields[1])).upgrade == b""
    assert scanned(request(*fields, b"content-length: 1")).upgrade == b""
    assert scanned(request(*fields, line=b"GET / HTTP/1.0")).upgrade == b""


def test_a_request_without_host_may_be_http_1_0() -> None:
    head = scanned(request(line=b"GET / HTTP/1.0", host=b""))
    assert (head.host, head.version_1_1) == (b"", False)


def test_options_may_ask_about_the_server() -> None:
    assert scanned(request(line=b"OPTIONS * HTTP/1.1")).path == b"*"


# every split of the same bytes


@given(st.lists(st.sampled_from([
    b"GET / HTTP/1.1\r\n", b"host: a\r\n", b"Host: b\r\n", b"a: b\r\n", b"a : b\r\n", b"\r\n",
    b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b"\n", b"\r", b" x\r\n", b"\x00",
    b"a: " + b"b" * 9000 + b"\r\n", b"GET /" + b"c" * 9000 + b" HTTP/1.1\r\n",
]), max_size=9).map(b"".join), st.data())  # fmt: skip
def test_a_verdict_does_not_depend_on_the_cut(message: bytes, data: st.DataObject) -> None:
    whole = status_of(message)
    cut = data.draw(st.integers(0, len(message)))
    early = status_of(message[:cut])
    if early > 0:
        assert whole > 0  # which of several faults is named may differ
    elif early == 0:
        assert whole == 0 or message[:cut].find(b"\r\n\r\n") < 0


# responses


def response(
    *lines: bytes, line: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET"
) -> ResponseHead:
    data = b"\r\n".join([line, *lines, b"", b""])
    return scan_response(data, len(data), method)


def test_a_response_is_taken_apart() -> None:
    head = response(
        b"Content-Type: text/plain",
        b"Content-Length: 5",
        b"Connection: keep-alive",
        b"X-Request-Id: theirs",
        b"x-served-by: orders/orders-1",
    )
    assert (head.status, head.body, head.keep_alive) == (200, 5, True)
    assert head.served_by == b"orders/orders-1"
    assert head.lines == [
        b"Content-Type: text/plain",
        b"Content-Length: 5",
        b"x-served-by: orders/orders-1",
    ]


@pytest.mark.parametrize(
    ("lines", "line", "method", "body"),
    [
        ((b"transfer-encoding: Chunked",), b"HTTP/1.1 200 OK", b"GET", CHUNKED),
        ((), b"HTTP/1.1 200 OK", b"GET", UNTIL_CLOSE),
        ((b"content-length: 7",), b"HTTP/1.1 200 OK", b"HEAD", 0),
        ((b"transfer-encoding: chunked",), b"HTTP/1.1 200 OK", b"HEAD", 0),
        ((b"content-length: 7",), b"HTTP/1.1 304 Not Modified", b"GET", 0),
        ((b"content-length: 7",), b"HTTP/1.1 204 No Content", b"GET", 0),
        ((), b"HTTP/1.1 100 Continue", b"GET", 0),
        ((b"content-length: 0",), b"HTTP/1.1 200", b"GET", 0),
        ((b"content-length: 3",), b"HTTP/1.0 200 OK", b"GET", 3),
    ],
)
def test_where_a_response_ends(
    lines: tuple[bytes, ...], line: bytes, method: bytes, body: int
) -> None:
    assert response(*lines, line=line, method=method).body == body


def test_a_length_that_describes_no_body_is_kept_only_where_it_means_something() -> None:
    length = b"content-length: 7"
    assert response(length, method=b"HEAD").lines == [length]
    assert response(length, line=b"HTTP/1.1 304 Not Modified").lines == [length]
    assert response(length, line=b"HTTP/1.1 204 No Content").lines == []


def test_an_old_response_is_passed_on_as_a_new_one_and_its_connection_ends() -> None:
    head = response(line=b"HTTP/1.0 200 OK")
    assert head.status_line == b"HTTP/1.1 200 OK"
    assert not head.keep_alive
    assert not response(b"connection: close").keep_alive


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ((b"content-length: 5", b"transfer-encoding: chunked"), b"HTTP/1.1 200 OK"),
        ((b"content-length: 5", b"content-length: 5"), b"HTTP/1.1 200 OK"),
        ((b"content-length: x",), b"HTTP/1.1 200 OK"),
        ((b"transfer-encoding: gzip",), b"HTTP/1.1 200 OK"),
        ((b"transfer-encoding: chunked",), b"HTTP/1.0 200 OK"),
        ((b"a: \x00",), b"HTTP/1.1 200 OK"),
        ((b"a : b",), b"HTTP/1.1 200 OK"),
        ((b"a: b", b" c"), b"HTTP/1.1 200 OK"),
        ((b"ab",), b"HTTP/1.1 200 OK"),
        ((b"connection: content-length",), b"HTTP/1.1 200 OK"),
        ((), b"HTTP/2 200 OK"),
        ((), b"HTTP/1.1 20 OK"),
        ((), b"HTTP/1.1 2000 OK"),
        ((), b"HTTP/1.1 700 What"),
        ((), b"ICY 200 OK"),
        ((), b""),
    ],
)
def test_bad_responses_are_refused(lines: tuple[bytes, ...], line: bytes) -> None:
    with pytest.raises(BadMessage) as caught:  # row 37
        response(*lines, line=line)
    assert caught.value.status == 502


def test_event_streams_are_known_by_their_type() -> None:
    assert response(b"Content-Type: Text/Event-Stream; charset=utf-8").is_event_stream()
    assert not response(b"content-type: text/html").is_event_stream()


# chunked bodies


def unchunked(
    data: bytes, cuts: tuple[int, ...] = (), *, unwrap: bool = False
) -> tuple[bytes, bytes, bool, int]:
    """What is passed on, what came behind, whether it ended, and how long the content is."""
    chunks = Chunked(unwrap)
    out, surplus, at = b"", b"", 0
    for cut in (*sorted(cuts), len(data)):
        if chunks.done:
            surplus += data[at:cut]
        else:
            out += chunks.feed(data[at:cut])
            surplus = chunks.surplus
        at = cut
    return out, surplus, chunks.done, chunks.length


BODY = b'5\r\nhello\r\n6;a=b;c="x\\"y"\r\n world\r\n00\r\nX-Trailer: 1\r\n\r\nGET /next'


def test_chunks_are_passed_on_without_extensions_and_trailers() -> None:
    assert unchunked(BODY) == (
        b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        b"GET /next",
        True,
        11,
    )
    assert unchunked(BODY, unwrap=True) == (b"hello world", b"GET /next", True, 11)


@pytest.mark.parametrize("unwrap", [False, True])
def test_every_split_of_a_chunked_body_gives_the_same(unwrap: bool) -> None:
    whole = unchunked(BODY, unwrap=unwrap)
    for first in range(len(BODY)):
        for second in range(first, len(BODY)):
            assert unchunked(BODY, (first, second), unwrap=unwrap) == whole


def test_a_body_that_is_canonical_is_passed_on_without_a_copy() -> None:
    data = b"5\r\nhello\r\n0\r\n\r\n"
    assert Chunked().feed(data) is data


@pytest.mark.parametrize(
    "data",
    [
        b"0x5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"-1\r\n",
        b"+5\r\nhello\r\n",
        b"\r\n",
        b"1" * 16 + b"\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5;\r\nhello\r\n",
        b"5;a=\r\nhello\r\n",
        b'5;a="b\r\nhello\r\n',
        b"5;a\x00\r\nhello\r\n",
        b"5;" + b"a" * MAX_CHUNK_LINE + b"\r\nhello\r\n",
        b"5" * (MAX_CHUNK_LINE + 2),
        b"0\r\nno field\r\n\r\n",
        b"0\r\na : b\r\n\r\n",
        b"0\r\na: \x00\r\n\r\n",
        b"0\r\n" + b"a: b\r\n" * 2000,
    ],
)
def test_bad_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(BadMessage):  # rows 23 to 25
        unchunked(data)
    if len(data) < 1000:
        with pytest.raises(BadMessage):
            unchunked(data, tuple(range(len(data))))


def test_a_body_that_stops_short_is_not_done() -> None:
    for end in range(len(b"5\r\nhello\r\n0\r\n\r")):
        assert not unchunked(b"5\r\nhello\r\n0\r\n\r"[:end])[2]


# differences to other readers: what is accepted here, they frame the same


class Framing:
    """What llhttp makes of a request: its body's bytes and whether it was whole."""

    def __init__(self) -> None:
        self.body, self.whole = b"", False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = True


def by_llhttp(data: bytes) -> tuple[bytes, bool] | None:
    framing = Framing()
    try:
        httptools.HttpRequestParser(framing).feed_data(data)
    except httptools.HttpParserUpgrade:
        return framing.body, framing.whole
    except httptools.HttpParserError:
        return None
    return framing.body, framing.whole


def by_h11(data: bytes) -> tuple[bytes, bool] | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return body, True
            elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return body, False
    except h11.RemoteProtocolError:
        return None


def by_us(data: bytes) -> tuple[bytes, bool] | None:
    try:
        end = head_end(data)
        if end < 0:
            return None
        head = scan_request(data, end)
        if head.body != CHUNKED:
            return data[end : end + head.body], len(data) - end >= head.body
        chunks = Chunked(unwrap=True)
        return chunks.feed(data[end:]), chunks.done
    except BadMessage:
        return None


_FIELDS = st.sampled_from(
    [
        b"content-length: 5", b"Content-Length:5", b"content-length: 05", b"content-length: +5",
        b"content-length: 5,5", b"transfer-encoding: chunked", b"Transfer-Encoding:\tCHUNKED ",
        b"transfer-encoding: gzip, chunked", b"transfer-encoding: identity", b"te: trailers",
        b"transfer-encoding : chunked", b"content-length : 5", b"a: b", b"a:\x0bb", b"a\x00: b",
        b"connection: close", b"x: y\r z", b"x: y\n z", b" folded", b"host: b",
    ]
)  # fmt: skip
_BODIES = st.sampled_from(
    [
        b"", b"hello", b"hell", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nx: y\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
        b"05\r\nhello\r\n00\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n",
        b"5;\"\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"5\r\nhello\r\n0\r\n",
    ]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(_FIELDS, max_size=4), _BODIES)
@example([b"transfer-encoding: chunked"], b"5;a=b\r\nhello\r\n0\r\n\r\n")
def test_what_is_accepted_is_framed_alike_by_others(fields: list[bytes], body: bytes) -> None:
    data = request(*fields, line=b"POST / HTTP/1.1") + body
    ours = by_us(data)
    if ours is None:
        return
    for theirs in (by_llhttp(data), by_h11(data)):
        assert theirs is None or theirs == ours


def test_the_comparison_compares_something() -> None:
    data = request(b"transfer-encoding: chunked", line=b"POST / HTTP/1.1") + BODY[:9] + b"0\r\n\r\n"
    data = data.replace(b"hello0", b"hello\r\n0")
    assert by_us(data) == by_llhttp(data) == by_h11(data)


LINES = st.tuples(
    st.one_of(
        st.sampled_from([b"GET", b"POST", b"get", b"TRACE", b"PURGE"]), st.binary(max_size=4)
    ),
    st.sampled_from([b" ", b" ", b" ", b"  ", b"\t"]),
    st.one_of(
        st.from_regex(rb"/[a-z/.%?;]{0,9}", fullmatch=True), st.just(b"/" + b"a" * MAX_TARGET)
    ),
    st.sampled_from([b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/1.1 ", b"", b" http/1.1"]),
).map(b"".join)


@given(LINES)
@example(b"GET / HTTP/1.1")
@example(b"GET /a/b. HTTP/1.1")
@example(b"GET /.a HTTP/1.1")
@example(b"GET /" + b"a" * (MAX_TARGET - 1) + b" HTTP/1.1")
def test_a_usual_request_line_is_read_alike_in_both_ways(line: bytes) -> None:
    data = line + b"\r\nhost: a\r\n\r\n"
    found, end = walked_request(data)
    if found is None:
        return
    assert data[:end] == line
    head = scanned(data)
    assert (found.method, found.path, found.query) == (head.method, head.path, head.query)
    assert (found.known_method, found.version_1_1) == (head.known_method, head.version_1_1)
    assert found.keep_alive == head.keep_alive


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"PUT /a/b.c;d/ HTTP/1.1"])
def test_a_usual_request_line_is_walked(line: bytes) -> None:
    assert walked_request(line + b"\r\n\r\n")[1] == len(line)


def credential(*lines: bytes) -> tuple[RequestHead, bytes]:
    data = b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *lines, b"", b""])
    head = scan_request(data, len(data))
    return head, head.sole_credential()


@pytest.mark.parametrize("name", [b"Authorization", b"authorization", b"AUTHORIZATION"])
def test_a_credential_is_told_and_can_be_taken_out(name: bytes) -> None:
    head, value = credential(name + b":  Bearer a.b.c ", b"X: 1")
    assert value == b"Bearer a.b.c"
    head.remove_credential(value)
    assert head.block() == b"Host: a\r\nX: 1\r\n"


@pytest.mark.parametrize("before", [b"X: Basic xyz", b"Cookie: a=Basic xyz"])
def test_another_field_that_holds_the_same_stays(before: bytes) -> None:
    head, value = credential(before, b"Authorization: Basic xyz")
    head.remove_credential(value)
    assert head.lines == [b"Host: a", before]


@pytest.mark.parametrize("second", [b"Authorization: b", b"authorization: b", b"AUTHORIZATION:"])
@pytest.mark.parametrize("first", [b"Authorization: a", b"Authorization:"])
def test_two_credentials_are_not_told_as_one(first: bytes, second: bytes) -> None:
    head, value = credential(first, second)
    assert value == b""
    assert len(head.values(b"authorization")) == 2


def test_a_credential_is_not_told_of_a_head_that_was_edited() -> None:
    head, _ = credential(b"Authorization: a")
    head.lines.append(b"authorization: b")
    assert head.sole_credential() == b""
