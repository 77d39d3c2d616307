"""The table of bad inputs, row by row: what the gateway says, and what it sends on.

Each test names its row of the table that the gateway was designed by: rows 1 to 50 and 54. Rows 51
to 53 are about HTTP/2 and the PROXY protocol, which the gateway does not speak. Rows that need real
sockets, clocks or signatures are in tests/integration/gateway/test_bad_rows.py.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from seawall.errors import Misconfigured
from seawall.gateway.config import Edge, Route
from seawall.gateway.forwarding import MAX_HOPS
from seawall.gateway.upstream import MAX_INTERIM
from seawall.wire.chunked import MAX_EXTENSIONS
from seawall.wire.http1 import MAX_FIELDS, MAX_RANGES, MAX_RESPONSE_FIELDS, MAX_RESPONSE_HEAD
from tests.support.wires import OK, Pair

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
TESTS = Path(__file__).parents[2]


def head(*fields: bytes, line: bytes = b"POST / HTTP/1.1", host: bytes = b"host: a") -> bytes:
    return b"\r\n".join([line, *([host] if host else []), *fields, b"", b""])


def get(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"host: a") -> bytes:
    return head(*fields, line=line, host=host)


def row(number: int, what: str, *values: Any) -> Any:
    return pytest.param(*values, id=f"row-{number:02d}-{what}")


END = b"0\r\n\r\n"  # so that what is refused is the head, and not the body behind it
CL, TE = b"content-length: 5", b"transfer-encoding: chunked"
WEBSOCKET = (b"connection: upgrade", b"upgrade: websocket")
VERSION, KEY = b"sec-websocket-version: 13", b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

REFUSED = [
    row(1, "both-framings", head(CL, TE) + END, 400),
    row(1, "both-framings-turned", head(TE, CL) + END, 400),
    row(2, "two-lengths", head(CL, b"content-length: 6"), 400),
    row(2, "equal-lengths", head(CL, CL), 400),
    row(2, "a-list-of-lengths", head(b"content-length: 5, 6"), 400),
    row(3, "plus", head(b"content-length: +5"), 400),
    row(3, "minus", head(b"content-length: -1"), 400),
    row(3, "hexadecimal", head(b"content-length: 0x5"), 400),
    row(3, "inner-space", head(b"content-length: 5 5"), 400),
    row(3, "overflow", head(b"content-length: 18446744073709551616"), 400),
    row(3, "empty", head(b"content-length:"), 400),
    row(4, "unknown-coding", head(b"transfer-encoding: secret") + END, 501),
    row(4, "chunked-is-not-last", head(b"transfer-encoding: chunked, gzip") + END, 400),
    row(4, "gzip-alone", head(b"transfer-encoding: gzip") + END, 400),
    row(5, "space-before-colon", head(b"transfer-encoding : chunked") + END, 400),
    row(5, "space-before-colon-of-length", head(b"content-length : 5"), 400),
    row(6, "vertical-tab", head(b"transfer-encoding: \x0bchunked") + END, 400),
    row(6, "form-feed", head(b"transfer-encoding: chunked\x0c") + END, 400),
    row(6, "nul", head(b"transfer-encoding: chunked\x00") + END, 400),
    row(6, "a-letter-more", head(b"transfer-encoding: xchunked") + END, 501),
    row(6, "quoted", head(b'transfer-encoding: "chunked"') + END, 501),
    row(6, "twice", head(TE, TE) + END, 400),
    row(6, "once-and-hidden", head(TE, b"Transfer-Encoding: x") + END, 501),
    row(8, "chunked-in-1.0", head(TE, line=b"POST / HTTP/1.0") + END, 400),
    row(9, "folded", head(b"a: b", b" c"), 400),
    row(9, "folded-with-tab", head(b"transfer-encoding:", b"\tchunked"), 400),
    row(10, "bare-cr-in-value", head(b"a: b\rtransfer-encoding: chunked"), 400),
    row(10, "bare-cr-in-request-line", head(line=b"GET / HTTP/1.1\rx"), 400),
    row(11, "bare-lf", head(b"a: b\ntransfer-encoding: chunked"), 400),
    row(11, "bare-lf-only", b"GET / HTTP/1.1\nhost: a\n\n", 400),
    row(12, "nul", head(b"a: b\x00c"), 400),
    row(12, "delete", head(b"a: b\x7f"), 400),
    row(13, "bad-name", head(b"a(b): c"), 400),
    row(13, "empty-name", head(b": c"), 400),
    row(13, "no-colon", head(b"abc"), 400),
    row(14, "space-before-first-field", b"GET / HTTP/1.1\r\n \r\nhost: a\r\n\r\n", 400),
    row(14, "spaced-first-field", b"GET / HTTP/1.1\r\n host: a\r\n\r\n", 400),
    row(15, "a-large-field", head(b"a: " + b"b" * 65536), 431),
    row(15, "a-large-head", head(*[b"a: " + b"b" * 1000] * 20), 431),
    row(15, "many-fields", head(*[b"a: b"] * MAX_FIELDS), 431),
    row(16, "a-long-target", get(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1"), 414),
    row(17, "a-huge-method", get(line=b"A" * 40 + b" / HTTP/1.1"), 501),
    row(17, "no-token", get(line=b"G(T / HTTP/1.1"), 400),
    row(18, "no-host", get(host=b""), 400),
    row(18, "two-hosts", get(b"host: b"), 400),
    row(18, "invalid-host", get(host=b"host: a@b"), 400),
    row(18, "invalid-host-behind-a-url", get(line=b"GET http://b/ HTTP/1.1", host=b"host: /"), 400),
    row(19, "user-in-url", get(line=b"GET http://a@b/ HTTP/1.1"), 400),
    row(20, "connect", get(line=b"CONNECT a:443 HTTP/1.1"), 501),
    row(20, "authority-form", get(line=b"GET a:443 HTTP/1.1"), 400),
    row(21, "asterisk", get(line=b"GET * HTTP/1.1"), 400),
    row(22, "fragment", get(line=b"GET /#a HTTP/1.1"), 400),
    row(22, "space", get(line=b"GET /a b HTTP/1.1"), 400),
    row(22, "not-ascii", get(line=b"GET /\xc3\xa9 HTTP/1.1"), 400),
    row(31, "unknown-expectation", head(CL, b"expect: the worst"), 417),
    row(34, "no-key", get(*WEBSOCKET, VERSION), 400),
    row(34, "bad-key", get(*WEBSOCKET, VERSION, b"sec-websocket-key: x"), 400),
    row(34, "two-keys", get(*WEBSOCKET, VERSION, KEY, KEY), 400),
    row(34, "bad-version", get(*WEBSOCKET, b"sec-websocket-version: 1337", KEY), 426),
    row(34, "no-version", get(*WEBSOCKET, KEY), 426),
    row(34, "not-get", head(*WEBSOCKET, VERSION, KEY), 400),
    row(39, "connection-names-host", get(b"connection: host"), 400),
    row(39, "connection-names-length", head(CL, b"connection: content-length"), 400),
    row(39, "connection-names-authorization", get(b"connection: Authorization, close"), 400),
    row(39, "connection-names-cookie", get(b"cookie: a=b", b"connection: cookie"), 400),
    row(42, "encoded-slash", get(line=b"GET /public/..%2fadmin HTTP/1.1"), 400),
    row(42, "encoded-backslash", get(line=b"GET /public%5c..%5cadmin HTTP/1.1"), 400),
    row(42, "encoded-nul", get(line=b"GET /admin%00.png HTTP/1.1"), 400),
    row(42, "overlong-utf-8", get(line=b"GET /%c0%ae%c0%ae/admin HTTP/1.1"), 400),
    row(42, "dots-with-parameters", get(line=b"GET /public/..;/admin HTTP/1.1"), 400),
    row(42, "dots-with-encoded-parameters", get(line=b"GET /public/..%3b/admin HTTP/1.1"), 400),
    row(42, "above-the-root", get(line=b"GET /%2e%2e/admin HTTP/1.1"), 400),
    row(43, "encoded-line-end", get(line=b"GET /a%0d%0ax:%20y HTTP/1.1"), 400),
    row(44, "max-forwards-is-no-number", get(b"max-forwards: x", line=b"OPTIONS / HTTP/1.1"), 400),
    row(44, "trace", get(line=b"TRACE / HTTP/1.1"), 405),
    row(45, "range-flood", get(b"range: bytes=" + b",".join([b"0-"] * (MAX_RANGES + 1))), 416),
    row(45, "range-flood-in-fields", get(*[b"range: bytes=0-"] * (MAX_RANGES + 1)), 416),
    row(45, "accept-encoding-bomb", get(b"accept-encoding: " + b"gzip;q=0.1," * 2000), 431),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status"), REFUSED)
def test_refused(data: bytes, status: int) -> None:
    pair = Pair()
    assert pair.feed(data + SMUGGLED) == []
    assert pair.statuses == [status]
    assert b"\r\nconnection: close\r\n" in pair.client.data
    assert pair.is_over
    assert pair.service.data == b""
    assert pair.is_at_rest()


BAD_CHUNKS = [
    row(23, "hexadecimal", b"0x5\r\nhello\r\n0\r\n\r\n"),
    row(23, "space", b"5 \r\nhello\r\n0\r\n\r\n"),
    row(23, "minus", b"-1\r\nhello\r\n0\r\n\r\n"),
    row(23, "too-many-digits", b"00000000000000005\r\nhello\r\n0\r\n\r\n"),
    row(23, "empty", b"\r\nhello\r\n0\r\n\r\n"),
    row(24, "huge-extension", b"5;" + b"x" * 300 + b"\r\nhello\r\n0\r\n\r\n"),
    row(24, "many-extensions", b"1;%b\r\nx\r\n" % (b"x" * 200) * (MAX_EXTENSIONS // 200 + 1)),
    row(24, "bare-lf", b"5;a\nhello\r\n0\r\n\r\n"),
    row(24, "bad-token", b"5;a b\r\nhello\r\n0\r\n\r\n"),
    row(25, "no-line-end-behind-data", b"5\r\nhello0\r\n\r\n"),
    row(25, "more-than-the-size", b"5\r\nhello!\r\n0\r\n\r\n"),
    row(26, "trailer-that-is-no-field", b"0\r\nsmuggled\r\n\r\n"),
    row(26, "trailer-with-space-before-colon", b"0\r\ncontent-length : 5\r\n\r\n"),
]


@pytest.mark.parametrize("body", BAD_CHUNKS)
@pytest.mark.parametrize("later", [False, True])
def test_bad_chunks(body: bytes, later: bool) -> None:
    pair = Pair()
    if later:
        assert pair.feed(head(TE)) == []
        assert pair.feed(body + SMUGGLED) == []
    else:
        assert pair.feed(head(TE) + body + SMUGGLED) == []
    assert pair.statuses == [400]
    assert pair.is_over
    assert pair.service.closed == later  # nothing was begun, or it is not ended cleanly
    assert b"0\r\n\r\n" not in pair.service.data
    assert pair.is_at_rest()


def test_row_25_a_missing_last_chunk_is_no_whole_request() -> None:
    pair = Pair()
    assert pair.feed(head(TE) + b"5\r\nhello\r\n") == []
    pair.down.eof_received()
    assert pair.statuses == [400]
    assert pair.service.closed
    assert pair.is_at_rest()


def test_row_26_trailers_are_never_merged_into_the_head() -> None:
    trailers = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nAuthorization: x\r\n"
    pair = Pair()
    (sent,) = pair.feed(head(TE) + b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n")
    assert sent.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert b"uthorization" not in sent
    assert sent.lower().count(b"host: ") == 2  # ours, and x-forwarded-host
    answer = b"HTTP/1.1 200 OK\r\n%b\r\n\r\n0\r\nSet-Cookie: a=b\r\n\r\n" % TE
    pair.feed(get(), answer)
    assert pair.statuses == [200, 200]
    assert b"ookie" not in pair.client.data


def test_row_27_a_body_over_the_limit_is_not_begun() -> None:
    pair = Pair(routes=(Route(service="shop", max_body=4),))
    assert pair.feed(head(CL)) == []
    assert pair.statuses == [413]
    assert pair.is_over
    assert pair.service.data == b""


def test_row_28_a_body_that_ends_early_is_not_sent_as_whole() -> None:
    pair = Pair()
    assert pair.feed(head(CL) + b"hell") == []
    pair.down.eof_received()
    assert pair.statuses == [400]
    assert pair.service.closed
    assert pair.is_at_rest()


SENT_ON = [
    row(
        7, "underscore-twins",
        (b"Transfer_Encoding: chunked", b"X_Forwarded_For: 6.6.6.6", b"Content_Length: 99",
         b"x-identity_subject: root", b"X_Real_Ip: 6.6.6.6", b"HTTP2_Settings: x"),
    ),
    row(35, "h2c", (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: x")),
    row(
        39, "nominated",
        (b"connection: x-hop, x-request-id, x-forwarded-for, traceparent", b"x-hop: 6.6.6.6"),
    ),
    row(
        40, "forged",
        (b"x-forwarded-for: 6.6.6.6", b"x-forwarded-proto: root", b"x-forwarded-host: evil",
         b"x-forwarded-port: 6666", b"x-forwarded-scheme: evil", b"X-Forwarded-Tomorrow: evil",
         b"forwarded: for=6.6.6.6", b"x-real-ip: 6.6.6.6", b"true-client-ip: 6.6.6.6",
         b"x-user-id: root", b"X_User_Id: root", b"x-remote-user: root", b"remote_user: root",
         b"x-identity-subject: root", b"x-identity-roles: root", b"x-original-url: /evil",
         b"x-rewrite-url: /evil", b"x-request-id: evil", b"baggage: evil",
         b"traceparent: 00-66666666666666666666666666666666-6666666666666666-01"),
    ),
    row(
        41, "hop-by-hop",
        (b"te: trailers", b"keep-alive: 6666", b"proxy-connection: evil",
         b"proxy-authorization: root", b"trailer: evil"),
    ),
]  # fmt: skip
LIES = re.compile(rb"6\.6\.6\.6|6666|root|evil|trailers|h2c|settings|: 99|chunked", re.IGNORECASE)


@pytest.mark.parametrize("fields", SENT_ON)
def test_sent_on_without(fields: tuple[bytes, ...]) -> None:
    pair = Pair()
    (sent,) = pair.feed(get(*fields, b"x-honest: yes"))
    assert LIES.search(sent) is None
    assert b"\r\nx-honest: yes\r\n" in sent
    for name in (b"x-forwarded-for: 192.0.2.1", b"x-request-id: ", b"traceparent: 00-"):
        assert sent.count(b"\r\n" + name) == 1
    assert pair.statuses == [200]


def test_row_17_a_method_nobody_knows_needs_a_route_that_names_it() -> None:
    routes = (
        Route(service="shop"),
        Route(service="shop", path="/dav", methods=("PROPFIND", "get")),
    )
    pair = Pair(routes=routes)
    for line in (b"PROPFIND / HTTP/1.1", b"post / HTTP/1.1", b"Get / HTTP/1.1"):
        assert pair.feed(get(line=line)) == []
    assert pair.statuses == [501] * 3
    (sent,) = pair.feed(get(line=b"PROPFIND /dav HTTP/1.1"))
    assert sent.startswith(b"PROPFIND /dav HTTP/1.1\r\n")


def test_row_19_the_target_says_whom() -> None:
    (sent,) = Pair().feed(get(line=b"GET http://Other:81/x HTTP/1.1"))
    assert sent.startswith(b"GET /x HTTP/1.1\r\nhost: Other:81\r\n")
    assert b"x-forwarded-host: Other:81\r\n" in sent
    assert b"host: a\r\n" not in sent


def test_row_30_a_pipelined_flood_is_read_no_further_than_the_bound() -> None:
    pair = Pair()
    pair.down.data_received(get() * 3)
    for _ in range(10):
        if pair.client.reading:
            pair.down.data_received(get() * 300)
    assert not pair.client.reading
    assert pair.service.data.count(b"GET / ") == 1  # one at a time, in their order
    pair.up.data_received(OK)
    assert pair.service.data.count(b"GET / ") == 2


def test_row_31_a_final_answer_comes_without_the_body() -> None:
    pair = Pair(routes=(Route(service="shop", path="/here"),))
    pair.feed(head(CL, b"expect: 100-continue"))
    assert pair.statuses == [404]
    assert pair.is_over


def test_row_31_no_interim_answer_to_an_old_client() -> None:
    pair = Pair()
    pair.feed(head(CL, b"expect: 100-continue", line=b"POST / HTTP/1.0"))
    assert pair.client.data == b""
    pair.feed(b"hello", b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert pair.statuses == [200]


def test_row_32_an_answer_before_the_request_is_whole_ends_both_connections() -> None:
    pair = Pair()
    pair.down.data_received(head(CL))
    pair.up.data_received(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")
    assert pair.statuses == [413]
    assert b"\r\nconnection: close\r\n" in pair.client.data
    assert pair.is_over
    assert pair.service.closed
    assert pair.feed(b"hello" + SMUGGLED) == []
    assert pair.is_at_rest()


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"


def test_row_33_interim_answers_are_counted_for_each_request_alone() -> None:
    pair = Pair()
    for _ in range(MAX_INTERIM):
        pair.feed(get(), INTERIM + OK)
    assert pair.statuses == [103, 200] * MAX_INTERIM
    assert not pair.service.closed


BAD_ANSWERS = [
    row(33, "unasked-101", b"HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
    row(33, "endless-interim", b"HTTP/1.1 103 E\r\n\r\n" * (MAX_INTERIM + 1)),
    row(37, "both-framings", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n" + TE + b"\r\n\r\n"),
    row(37, "two-lengths", b"HTTP/1.1 200 OK\r\n" + (CL + b"\r\n") * 2 + b"\r\nhello"),
    row(37, "bad-length", b"HTTP/1.1 200 OK\r\ncontent-length: 5x\r\n\r\nhello"),
    row(37, "unknown-coding", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello"),
    row(37, "chunked-in-1.0", b"HTTP/1.0 200 OK\r\n" + TE + b"\r\n\r\n0\r\n\r\n"),
    row(37, "bad-status-line", b"HTTP/1.1 2OO OK\r\n\r\n"),
    row(37, "another-protocol", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    row(37, "control", b"HTTP/1.1 200 OK\r\na: b\x00\r\n\r\n"),
    row(37, "bare-cr", b"HTTP/1.1 200 OK\r\na: b\rset-cookie: c\r\n\r\n"),
    row(37, "folded", b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n"),
    row(37, "space-before-colon", b"HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\nhello"),
    row(37, "many-fields", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 600 + b"\r\n"),
    row(37, "a-large-head", b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000 + b"\r\n\r\n"),
    row(39, "connection-names-length", b"HTTP/1.1 200 OK\r\nconnection: content-length\r\n\r\n"),
]  # fmt: skip


@pytest.mark.parametrize("answer", BAD_ANSWERS)
def test_bad_answers(answer: bytes) -> None:
    assert MAX_RESPONSE_FIELDS < 600
    assert MAX_RESPONSE_HEAD < 70_000
    for cut in (len(answer), len(answer) - 1, len(answer) // 2):
        pair = Pair()
        pair.down.data_received(get())
        pair.up.data_received(answer[:cut])
        if not pair.service.closed:
            pair.up.data_received(answer[cut:])
        assert pair.statuses[-1] == 502
        assert set(pair.statuses[:-1]) <= {103}
        assert pair.service.closed
        assert pair.is_at_rest()


CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"


def test_row_37_what_is_cut_short_is_never_ended_cleanly() -> None:
    pair = Pair()
    pair.down.data_received(get())
    pair.up.data_received(CHUNKS)
    pair.up.connection_lost(None)
    assert pair.is_over
    assert not pair.client.data.endswith(b"0\r\n\r\n")
    assert pair.is_at_rest()


def test_row_37_a_bad_chunk_breaks_an_answer_that_was_begun() -> None:
    pair = Pair()
    pair.down.data_received(get())
    pair.up.data_received(CHUNKS)
    pair.up.data_received(b"five\r\n")
    assert pair.is_over
    assert pair.client.data.endswith(b"\r\n5\r\nhello\r\n")
    assert pair.service.closed
    assert pair.is_at_rest()


def test_row_34_a_declined_upgrade_stays_http() -> None:
    pair = Pair()
    (sent, second) = pair.feed(get(*WEBSOCKET, VERSION, KEY) + SMUGGLED)
    assert b"connection: upgrade\r\nupgrade: websocket\r\n" in sent
    # What came early is a request like any other, with its own identity and its own route.
    assert second.startswith(b"GET /smuggled HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.1\r\n")


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        row(34, "another-protocol", SWITCH + b"connection: upgrade\r\nupgrade: h2c\r\n"),
        row(34, "no-upgrade", SWITCH + ACCEPT + b"\r\n"),
        row(34, "no-connection", SWITCH + b"upgrade: websocket\r\n" + ACCEPT + b"\r\n"),
        row(34, "no-accept", SWITCH + b"connection: upgrade\r\nupgrade: websocket\r\n"),
        row(
            34, "another-accept",
            SWITCH + b"\r\n".join([*WEBSOCKET, b"sec-websocket-accept: AAAA", b""]),
        ),
    ],
)  # fmt: skip
def test_no_tunnel_without_a_valid_101(answer: bytes) -> None:
    pair = Pair()
    pair.down.data_received(get(*WEBSOCKET, VERSION, KEY, b"connection: close") + SMUGGLED)
    pair.up.data_received(answer + b"\r\n")
    assert pair.statuses == [502]
    assert pair.service.closed
    assert pair.is_over
    assert pair.service.data.count(b"GET ") == 1
    assert pair.is_at_rest()


@pytest.mark.parametrize(
    ("line", "status", "told"),
    [
        row(36, "head", b"HEAD / HTTP/1.1", b"200 OK", True),
        row(36, "204", b"GET / HTTP/1.1", b"204 No Content", False),
        row(36, "304", b"GET / HTTP/1.1", b"304 Not Modified", True),
    ],
)
def test_a_body_where_none_can_be_reaches_nobody(line: bytes, status: bytes, told: bool) -> None:
    pair = Pair()
    pair.feed(get(line=line), b"HTTP/1.1 %b\r\ncontent-length: 4\r\n\r\nevil" % status)
    assert b"evil" not in pair.client.data
    assert (b"\r\ncontent-length: 4\r\n" in pair.client.data) == told
    assert pair.service.closed
    assert pair.is_at_rest()
    pair = Pair()
    pair.feed(get(line=line), b"HTTP/1.1 %b\r\n%b\r\n\r\n4\r\nevil\r\n" % (status, TE))
    assert b"evil" not in pair.client.data
    assert b"chunked" not in pair.client.data
    assert pair.service.closed


def test_row_36_a_204_that_announces_a_body_ends_its_connection() -> None:
    for field in (b"content-length: 4", TE):
        pair = Pair()
        pair.feed(get(), b"HTTP/1.1 204 No Content\r\n%b\r\n\r\n" % field)
        assert pair.statuses == [204]
        assert pair.service.closed  # its bytes may come when the next request is under way


def test_row_38_what_comes_behind_an_answer_reaches_nobody() -> None:
    pair = Pair()
    pair.feed(get(), OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
    assert pair.service.closed
    pair.connect()
    pair.feed(get())
    assert pair.statuses == [200, 200]
    pair.up.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
    assert pair.service.closed
    assert b"evil" not in pair.client.data


@pytest.mark.parametrize(
    ("target", "path"),
    [
        row(42, "dot-segments", b"/public/%2e%2E/mine", b"/mine"),
        row(42, "empty-segments", b"//mine", b"/mine"),
        row(42, "parameters", b"/mine;x=1", b"/mine;x=1"),
        row(42, "twice-encoded", b"/%252e%252e/mine", b"/%252e%252e/mine"),
        row(43, "line-end-in-a-query", b"/mine?a=%0d%0ax:y", b"/mine?a=%0d%0ax:y"),
    ],
)
def test_one_path_for_all(target: bytes, path: bytes) -> None:
    routes = (Route(service="shop"), Route(service="shop", path="/mine", rewrite="/m"))
    pair = Pair(routes=routes)
    (sent,) = pair.feed(get(line=b"GET %b HTTP/1.1" % target))
    expected = path
    if path == b"/mine" or path.startswith(b"/mine?"):
        expected = b"/m" + path[5:]
    assert sent.startswith(b"GET %b HTTP/1.1\r\n" % expected)
    assert b"\r\nx:y" not in pair.client.data


def test_row_44_a_request_that_passed_too_often_ends() -> None:
    pair = Pair()
    assert pair.feed(get(b"via: " + b"1.1 seawall, " * MAX_HOPS)) == []
    assert pair.statuses == [508]


def test_row_44_every_pass_is_counted_whoever_sends_it() -> None:
    pair = Pair()
    passed = get(b"via: 1.0 theirs, 1.1 seawall", b"via: 1.1 seawall")
    (sent,) = pair.feed(passed)
    assert b"\r\nvia: 1.1 seawall, 1.1 seawall, 1.1 seawall\r\n" in sent


def test_row_44_max_forwards_counts_down_and_ends_here() -> None:
    pair = Pair()
    (sent,) = pair.feed(get(b"max-forwards: 2", line=b"OPTIONS * HTTP/1.1"))
    assert sent.startswith(b"OPTIONS * HTTP/1.1\r\n")
    assert b"\r\nmax-forwards: 1\r\n" in sent
    assert pair.feed(get(b"max-forwards: 0", line=b"OPTIONS / HTTP/1.1")) == []
    assert pair.statuses == [200, 200]


def test_row_45_honest_ranges_are_passed_on() -> None:
    (sent,) = Pair().feed(get(b"Range: bytes=0-1,5-9"))
    assert b"\r\nRange: bytes=0-1,5-9\r\n" in sent


def test_limits_of_tunnels_are_no_debts() -> None:
    with pytest.raises(Misconfigured):
        Edge(tunnel_bytes=-1)
    with pytest.raises(Misconfigured):
        Edge(tunnel_lifetime=-1)


def test_every_row_has_a_test() -> None:
    files = (
        "unit/gateway/test_bad_input.py",
        "unit/gateway/test_bad_tokens.py",
        "integration/gateway/test_bad_rows.py",
    )
    text = "".join((TESTS / file).read_text() for file in files)
    named = {int(number) for number in re.findall(r"(?:\brow\(\s*|test_row_)([0-9]+)", text)}
    assert set(range(1, 51)) | {54} <= named
