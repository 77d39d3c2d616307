from seawall.telemetry.spans import ServerSpan, SpanBuffer
from seawall.wire.trace import TraceContext


def _span(name: str) -> ServerSpan:
    context = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)
    return ServerSpan(name=name, context=context, started=1.0, ended=2.0)


def test_the_oldest_are_taken_first() -> None:
    buffer = SpanBuffer()
    for name in "abc":
        buffer.add(_span(name))
    assert [span.name for span in buffer.take(2)] == ["a", "b"]
    assert [span.name for span in buffer.take(2)] == ["c"]
    assert buffer.take(2) == []
    assert buffer.lost == 0


def test_what_does_not_fit_is_counted() -> None:
    buffer = SpanBuffer(limit=2)
    for name in "abcd":
        buffer.add(_span(name))
    assert [span.name for span in buffer.take(9)] == ["a", "b"]
    assert buffer.lost == 2
    buffer.refused(2)
    assert buffer.lost == 4
    buffer.add(_span("e"))
    assert repr(buffer) == "<SpanBuffer 1 of 2 waiting, 4 lost>"
