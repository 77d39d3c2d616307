from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.wire.trace import Ids, TraceContext

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_valid_context_is_continued() -> None:
    context = TraceContext.parse(PARENT, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert context == TraceContext(TRACE, SPAN, True, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    child = context.child(Random(1))
    assert child.trace_id == TRACE
    assert child.span_id != SPAN
    assert child.headers() == {"traceparent": child.traceparent, "tracestate": context.state}


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        "garbage",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01.",
        f"{PARENT}, {PARENT}",
        f"00-{TRACE[:-1]}-{SPAN}-01",
    ],
)
def test_an_invalid_parent_is_none(parent: str | None) -> None:
    assert TraceContext.parse(parent) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    context = TraceContext.parse(f"cc-{TRACE}-{SPAN}-01-what-the-future-brings")
    assert context is not None
    assert context.traceparent == PARENT


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=1, b=2 ,, c=3", "a=1,b=2,c=3"),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a", ""),
        ("a=\u00e9", ""),
        ("tenant@vendor=x", "tenant@vendor=x"),
        (",".join(f"k{i}=v" for i in range(33)), ""),
        ("a=" + "x" * 256, "a=" + "x" * 256),
        ("a=" + "x" * 257, ""),
        (",".join(f"k{i}={'v' * 60}" for i in range(10)), ""),
    ],
)
def test_an_invalid_state_is_dropped_and_the_parent_kept(state: str, kept: str) -> None:
    context = TraceContext.parse(PARENT, state)
    assert context is not None
    assert context.state == kept


def test_a_new_trace_is_valid_and_the_flag_is_told() -> None:
    for sampled in (True, False):
        context = TraceContext.new(Random(5), sampled)
        assert TraceContext.parse(context.traceparent) == context


@given(st.text(max_size=80))
def test_no_text_breaks_the_parser(text: str) -> None:
    TraceContext.parse(text, text)


def test_ids_are_cut_from_a_pool_and_never_zero() -> None:
    drawn: list[int] = []

    def draw(size: int) -> bytes:
        drawn.append(size)
        return Random(len(drawn)).randbytes(size)

    ids = Ids(draw)
    taken = [ids.take(48) for _ in range(500)]
    assert len(set(taken)) == 500
    assert {len(one) for one in taken} == {48}
    assert len(drawn) == 3
    assert Ids(bytes).take(16) == b"0" * 15 + b"1"


def test_pairs_of_ids_come_from_a_pool() -> None:
    drawn: list[int] = []

    def draw(size: int) -> bytes:
        drawn.append(size)
        return Random(len(drawn)).randbytes(size)

    ids = Ids(draw)
    taken = [ids.pair() for _ in range(300)]
    assert len({trace + span for trace, span in taken}) == 300
    assert {(len(trace), len(span)) for trace, span in taken} == {(32, 16)}
    assert len(drawn) == 3
    assert Ids(bytes).pair() == ((b"0" * 15 + b"1") * 2, b"0" * 15 + b"1")
