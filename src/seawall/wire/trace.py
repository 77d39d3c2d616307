"""W3C Trace Context level 2: which trace a request belongs to.

https://www.w3.org/TR/trace-context-2/. Whoever receives a context that is not valid starts a new
trace; it is never an error of the request.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

# Beyond version 00 only the first four parts are known; more may follow after another "-".
_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER: Final = re.compile(
    r"(?:[a-z0-9][_0-9a-z\-*/@]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MAX_MEMBERS: Final = 32  # section 3.3.1.1
_MAX_STATE: Final = 512  # characters that everybody must pass on (section 3.3.1.5); we pass no more
_ZEROS: Final = b"0" * 4096
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_NO_DIGITS: Final = b"0" * 16
# A trace and a span, as digits; so many are drawn at once.
_PAIR: Final = struct.Struct("32s16s")
_PAIRS: Final = 128


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace. Ids are lower-case hexadecimal: 32 digits the trace, 16 the span."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""

    @staticmethod
    def parse(traceparent: str | None, tracestate: str | None = None) -> "TraceContext | None":
        """The context that a caller sent, or None where it sent none or no valid one.

        A valid parent with an invalid state keeps its parent and loses the state.
        """
        match = _PARENT.fullmatch((traceparent or "").strip(" \t"))
        if match is None:
            return None
        version, trace_id, span_id, flags, more = match.groups()
        if version == "ff" or trace_id == _NO_TRACE or span_id == _NO_SPAN:
            return None
        if version == "00" and more is not None:
            return None
        return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1), _state(tracestate or ""))

    @staticmethod
    def new(rng: Random, sampled: bool = True) -> "TraceContext":
        """The first span of a new trace."""
        # An id of zeros is invalid; `or 1` costs one trace in 2**128.
        return TraceContext(
            f"{rng.getrandbits(128) or 1:032x}", f"{rng.getrandbits(64) or 1:016x}", sampled
        )

    def child(self, rng: Random) -> "TraceContext":
        """A new span of the same trace."""
        return TraceContext(
            self.trace_id, f"{rng.getrandbits(64) or 1:016x}", self.sampled, self.state
        )

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def headers(self) -> dict[str, str]:
        """The header fields that carry this context to the next hop."""
        found = {TRACEPARENT: self.traceparent}
        if self.state:
            found[TRACESTATE] = self.state
        return found


def _state(text: str) -> str:
    """`text` in canonical form if it is a valid tracestate, otherwise empty."""
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    state = ",".join(members)
    if len(members) > _MAX_MEMBERS or len(state) > _MAX_STATE or len(keys) != len(members):
        return ""
    return state if all(_MEMBER.fullmatch(member) for member in members) else ""


class Ids:
    """Random hexadecimal digits, cut from a pool so that a request does not enter the kernel."""

    __slots__ = ("_at", "_draw", "_pairs", "_pool")

    def __init__(self, draw: Callable[[int], bytes]) -> None:
        """`draw(n)` returns n random bytes, as `os.urandom` and `Random.randbytes` do."""
        self._draw = draw
        self._pool: bytes = b""
        self._at = 0
        self._pairs: list[tuple[bytes, bytes]] = []

    def take(self, digits: int) -> bytes:
        """The next `digits` digits, at most 4,096; never zeros only."""
        at = self._at
        if at + digits > len(self._pool):
            self._pool = self._draw(4096).hex().encode()
            at = 0
        self._at = at + digits
        found = self._pool[at : at + digits]
        return found if found > _ZEROS else found[:-1] + b"1"

    def pair(self) -> tuple[bytes, bytes]:
        """The ids of a trace and of a span, none of them zeros only."""
        if not self._pairs:
            digits = self._draw(_PAIRS * _PAIR.size // 2).hex().encode()
            digits = digits.replace(_NO_DIGITS, _NO_DIGITS[:-1] + b"1")
            self._pairs = list(_PAIR.iter_unpack(digits))
        return self._pairs.pop()
