"""Reading the fields of a head: both ways find the same, and what is kept is what came."""

from hypothesis import example, given
from hypothesis import strategies as st

from seawall.wire import headers
from seawall.wire.fields import MAX_JUDGED, BadMessage, Head, Kinds, sifted, walked

REQUEST = Kinds(
    headers.REQUEST_KINDS,
    headers.FAMILIES,
    headers.reported_kind,
    kept=(headers.HOST, headers.CONTENT_LENGTH),
    most=8,
    refused=(400, 431),
)
RESPONSE = Kinds(
    headers.RESPONSE_KINDS,
    (),
    headers.response_kind,
    kept=(headers.CONTENT_LENGTH, headers.SERVED_BY),
    most=8,
    refused=(502, 502),
)
FIRST = b"GET / HTTP/1.1\r\n"

NAMES = st.one_of(
    st.sampled_from([*headers.REQUEST_KINDS, *headers.RESPONSE_KINDS]),
    st.sampled_from([b"X_Forwarded_For", b"x-FORWARDED-any", b"X-Identity-Any", b"x_real-ip"]),
    st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,80}", fullmatch=True),
    st.binary(max_size=6),
)
VALUES = st.one_of(
    st.binary(max_size=8),
    st.from_regex(rb"[ \t]*[\x21-\x7e\x80-\xff]{0,9}[ \t]*", fullmatch=True),
)
LINES = st.lists(
    st.one_of(st.tuples(NAMES, st.just(b":"), VALUES).map(b"".join), st.binary(max_size=12)),
    max_size=10,
)


def head_of(lines: list[bytes]) -> bytes:
    return FIRST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@given(lines=LINES, kinds=st.sampled_from([REQUEST, RESPONSE]))
@example(lines=[], kinds=REQUEST)
@example(lines=[b"Host: a", b"Connection: close", b"accept:"], kinds=REQUEST)
@example(lines=[b"a" * 256 + b": b"], kinds=REQUEST)
@example(lines=[b"a" * 257 + b": b"], kinds=REQUEST)
@example(lines=[b"a: b"] * 9, kinds=REQUEST)
@example(lines=[b"a: b\rc: d"], kinds=REQUEST)
@example(lines=[b"a: \x7f"], kinds=RESPONSE)
@example(lines=[b"accept"], kinds=REQUEST)
def test_a_head_is_read_alike_in_both_ways(lines: list[bytes], kinds: Kinds) -> None:
    data = head_of(lines)
    end = data.find(b"\r\n\r\n") + 4  # of a line that is empty, if there is one
    one, other = Head(), Head()
    found = walked(one, data, len(FIRST), end, kinds)
    if found is None:
        try:
            sifted(other, data, len(FIRST), end, kinds)
        except BadMessage:
            return
        raise AssertionError("walked gave up on a good head")
    assert found == sifted(other, data, len(FIRST), end, kinds)
    assert one.block() == other.block()
    assert one.lines == other.lines
    again = Head()
    assert found == sifted(again, data, len(FIRST), end, kinds)  # of lines that are known by now
    assert again.block() == other.block()


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_every_name_that_means_something_is_looked_up(fields: list[tuple[bytes, bytes]]) -> None:
    good = [(name, b"x") for name, _ in fields if headers.is_token(name)]
    data = head_of([name + b":" + value for name, value in good])
    kinds = [headers.reported_kind(name) for name, _ in good]
    assert walked(Head(), data, len(FIRST), len(data), REQUEST) == [
        (kind, b"x") for kind in kinds if kind
    ]


def test_lines_are_cut_when_somebody_asks_and_may_be_edited() -> None:
    data = head_of([b"Accept: a", b"Connection: close", b"Host:\t b ", b"X: 1"])
    head = Head()
    assert sifted(head, data, len(FIRST), len(data), REQUEST) == [
        (headers.CONNECTION, b"close"),
        (headers.HOST, b"b"),
    ]
    assert head.block() == b"Accept: a\r\nHost:\t b \r\nX: 1\r\n"
    assert head.values(b"x") == [b"1"]
    assert head.has(b"accept")
    head.lines.append(b"y: 2")
    assert head.block() == b"Accept: a\r\nHost:\t b \r\nX: 1\r\ny: 2\r\n"
    head.lines = []
    assert head.block() == b""


def test_a_head_without_fields_has_no_lines() -> None:
    data = head_of([])
    for read in (walked, sifted):
        head = Head()
        assert read(head, data, len(FIRST), len(data), REQUEST) == []
        assert head.lines == []
        assert head.block() == b""


def test_no_more_lines_are_known_again_than_so_many_and_no_long_ones() -> None:
    kinds = Kinds(
        headers.REQUEST_KINDS, (), headers.reported_kind, kept=(), most=8, refused=(400, 431)
    )
    for number in range(MAX_JUDGED + 1):
        data = head_of([b"x: %d" % number, b"via: %d" % number, b"y: " + b"y" * 600])
        sifted(Head(), data, len(FIRST), len(data), kinds)
    assert kinds.judged == {b"x: %d" % MAX_JUDGED}
    assert kinds.reported == {b"via: %d" % MAX_JUDGED: (headers.VIA, b"%d" % MAX_JUDGED)}
