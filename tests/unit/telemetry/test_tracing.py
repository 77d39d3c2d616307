import contextvars

from seawall.telemetry import tracing
from seawall.wire.trace import TraceContext

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-00".encode()


def _arrived(parent: bytes | None, state: bytes | None = None) -> TraceContext:
    def run() -> TraceContext:
        tracing.enter(tracing.Arrived(parent, state))
        found = tracing.current()
        assert found is not None
        assert tracing.current() == found  # read once
        return found

    return contextvars.copy_context().run(run)


def test_a_callers_trace_is_continued() -> None:
    found = _arrived(PARENT, b"vendor=1")
    assert (found.trace_id, found.sampled, found.state) == (TRACE_ID, False, "vendor=1")
    assert found.span_id != "00f067aa0ba902b7"


def test_without_a_valid_one_a_new_one_begins() -> None:
    found = {_arrived(parent).trace_id for parent in (None, b"", b"nonsense", PARENT + b",x")}
    assert len(found) == 4
    assert TRACE_ID not in found


def test_the_id_of_a_new_trace_is_known_unread() -> None:
    arrived = tracing.Arrived(None, None)
    assert arrived.context.trace_id == arrived.new_id
    assert len(arrived.new_id) == 32


def test_spans_nest() -> None:
    def run() -> None:
        assert tracing.current() is None
        with tracing.span("outer", tracing.CLIENT) as outer:
            assert tracing.current() == outer
            with tracing.span("inner", tracing.PRODUCER) as inner:
                assert inner.trace_id == outer.trace_id
                assert inner.span_id != outer.span_id
            assert tracing.current() == outer
        assert tracing.current() is None

    contextvars.Context().run(run)


def test_a_given_parent_is_continued() -> None:
    parent = TraceContext(TRACE_ID, "00f067aa0ba902b7", True)
    with tracing.span("process", tracing.CONSUMER, parent=parent, linked=parent) as own:
        assert own.trace_id == TRACE_ID
        assert own.span_id != parent.span_id


def test_nobody_records_without_an_sdk() -> None:
    assert not tracing.recording()
