"""Spans that are over, on their way from who made them to who takes them away.

A buffer between a data path that must not wait and a thread that does. It is bounded; what does
not fit, or is not taken, is dropped and counted. Nothing here knows OpenTelemetry's SDK.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from seawall.wire.trace import TraceContext

# OpenTelemetry's default (OTEL_BSP_MAX_QUEUE_SIZE): about 2 MB.
MAX_WAITING: Final = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSpan:
    """A request that was answered, as OpenTelemetry calls it. Times are wall clock seconds."""

    name: str
    context: TraceContext
    parent_id: str = ""  # of the caller's span, in the same trace
    started: float
    ended: float
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    failed: bool = False


class SpanBuffer:
    """Takes from one thread, gives to another."""

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._waiting: deque[ServerSpan] = deque()
        self._dropped = 0  # by who adds
        self._refused = 0  # by who takes; two counters, since `+=` of two threads loses some

    def add(self, span: ServerSpan) -> None:
        """Keep it if there is room. Never waits."""
        if len(self._waiting) < self._limit:
            self._waiting.append(span)
        else:
            self._dropped += 1

    def take(self, most: int) -> list[ServerSpan]:
        """The oldest ones, at most `most`; they are the taker's now."""
        waiting = self._waiting
        return [waiting.popleft() for _ in range(min(most, len(waiting)))]

    def refused(self, count: int) -> None:
        """Nobody wanted that many of those that were taken."""
        self._refused += count

    @property
    def lost(self) -> int:
        return self._dropped + self._refused

    def __repr__(self) -> str:
        return f"<SpanBuffer {len(self._waiting)} of {self._limit} waiting, {self.lost} lost>"
