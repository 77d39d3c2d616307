"""Which trace the running code belongs to, with or without an OpenTelemetry SDK.

Without an SDK a trace context (W3C) is passed on and written into logs, and no spans are
recorded. Where the program set up an SDK, its spans are used instead, and the context passed on
is that of the current span. Code here asks OpenTelemetry only through its API.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from random import Random

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.span import TraceState

from seawall.wire.trace import Ids, TraceContext

_rng = Random()
os.register_at_fork(after_in_child=_rng.seed)  # or replicas of one parent would share ids

_ids = Ids(_rng.randbytes)


class Arrived:
    """The context of work that came with these headers, read when somebody asks for it.

    Most requests are answered without a log line, a call or a message, and never do.
    """

    __slots__ = ("_context", "_state", "_traceparent", "new_id")

    def __init__(self, traceparent: bytes | None, tracestate: bytes | None) -> None:
        self._traceparent = traceparent
        self._state = tracestate
        self._context: TraceContext | None = None
        # The trace's id where the caller has none, so that answers can name it unread.
        self.new_id = "" if traceparent else _ids.take(32).decode()

    @property
    def context(self) -> TraceContext:
        if self._context is None:
            self._context = self._read()
        return self._context

    def _read(self) -> TraceContext:
        if self._traceparent:
            state = None if self._state is None else self._state.decode("latin-1")
            parent = TraceContext.parse(self._traceparent.decode("latin-1"), state)
            if parent is not None:
                return parent.child(_rng)
        trace_id = self.new_id or _ids.take(32).decode()
        return TraceContext(trace_id, _ids.take(16).decode(), True)


_CURRENT: ContextVar[TraceContext | Arrived | None] = ContextVar("seawall_trace", default=None)

CLIENT = SpanKind.CLIENT
PRODUCER = SpanKind.PRODUCER
CONSUMER = SpanKind.CONSUMER


def recording() -> bool:
    """Did the program set up an OpenTelemetry SDK?"""
    return not isinstance(
        trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider
    )


def current() -> TraceContext | None:
    """The context of the running code: the SDK's current span if there is one, else ours."""
    span = trace.get_current_span().get_span_context()
    return _of(span) if span.is_valid else _ours()


def _ours() -> TraceContext | None:
    found = _CURRENT.get()
    return found.context if isinstance(found, Arrived) else found


def enter(arrived: Arrived) -> None:
    """Work that arrived from outside is what runs now, for the rest of this task."""
    _CURRENT.set(arrived)


@contextmanager
def span(
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, str | int | float] | None = None,
    *,
    parent: TraceContext | None = None,
    linked: TraceContext | None = None,
) -> Iterator[TraceContext]:
    """Run the block in a span of its own; yields the context to pass on.

    Its parent is the running code's span unless `parent` is given; `linked` is the context of
    what caused it, such as the publishing of a message.
    """
    if not recording():
        parent = parent or _ours()
        own = TraceContext.new(_rng) if parent is None else parent.child(_rng)
        token = _CURRENT.set(own)
        try:
            yield own
        finally:
            _CURRENT.reset(token)
        return
    tracer = trace.get_tracer("seawall")
    links = [Link(_span_context(linked))] if linked is not None else None
    with tracer.start_as_current_span(
        name, context=_parent(parent), kind=kind, attributes=dict(attributes or {}), links=links
    ) as recorded:
        yield _of(recorded.get_span_context())


def _parent(given: TraceContext | None) -> otel_context.Context | None:
    """The SDK's context to start from; where the SDK has no span yet, ours is the parent."""
    if given is None and trace.get_current_span().get_span_context().is_valid:
        return None
    parent = given or _ours()
    if parent is None:
        return None
    return trace.set_span_in_context(NonRecordingSpan(_span_context(parent)))


def _of(span: SpanContext) -> TraceContext:
    return TraceContext(
        f"{span.trace_id:032x}",
        f"{span.span_id:016x}",
        bool(span.trace_flags & TraceFlags.SAMPLED),
        span.trace_state.to_header(),
    )


def _span_context(context: TraceContext) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT),
        trace_state=TraceState.from_header([context.state] if context.state else []),
    )
