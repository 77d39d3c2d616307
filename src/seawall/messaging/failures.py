"""A failure as text: what a dead letter keeps of it. Pure.

First what it says, then where it was raised, the innermost call last, then what it came from. No
source lines: they would be read from the disk at a moment when much goes wrong.
"""

from collections.abc import Iterator
from types import TracebackType

# What a dead letter keeps: every broker here has room for it beside a message.
MAX_ERROR = 4_000  # characters

_MAX_SUMMARY = 1_000  # characters of what one exception says
_MAX_FRAMES = 12  # of one exception; the innermost ones say most
_MAX_CAUSES = 4
STACK = "\nTraceback (innermost call last):\n"


def summary(failure: BaseException) -> str:
    """`TypeOfIt: what it says`."""
    text = f"{type(failure).__name__}: {failure}"
    return text if len(text) <= _MAX_SUMMARY else text[: _MAX_SUMMARY - 1] + "…"


def account(failure: BaseException) -> str:
    """What is kept of a failure, at most `MAX_ERROR` characters."""
    stack = _frames(failure.__traceback__)
    for cause in _causes(failure):
        stack += [f"caused by {summary(cause)}", *_frames(cause.__traceback__)]
    return (summary(failure) + (STACK if stack else "") + "\n".join(stack))[:MAX_ERROR]


def taken_apart(error: str) -> tuple[str, str]:
    """What an error says, and its stack: "" where it has none."""
    said, _, stack = error.partition(STACK)
    return said, stack


def _frames(trace: TracebackType | None) -> list[str]:
    lines = []
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {trace.tb_lineno}, in {code.co_qualname}')
        trace = trace.tb_next
    left_out = len(lines) - _MAX_FRAMES
    if left_out <= 0:
        return lines
    return [f"  … {left_out} outer calls", *lines[left_out:]]


def _causes(failure: BaseException) -> Iterator[BaseException]:
    for _ in range(_MAX_CAUSES):
        context = None if failure.__suppress_context__ else failure.__context__
        cause = failure.__cause__ or context
        if cause is None:
            return
        yield cause
        failure = cause
