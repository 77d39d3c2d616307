"""Which dead letters died of the same: grouped by reason, error and place. Pure.

Two errors are the same if they differ only in what differs each time: numbers, ids, addresses,
times. The line in a file is such a number, since it moves with every version; the function is not.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from seawall.messaging.base import DeadLetter, Subscription
from seawall.messaging.failures import taken_apart

# Causes that are told apart; letters of further ones are counted together. A person reads tens.
MAX_CAUSES = 200

_MAX_ERROR = 300  # characters of an error that take part in the comparison
_OTHERS = "(of many other causes)"

# In this order: what an earlier one replaced a later one does not see.
_VARIABLE = (
    (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "<uuid>"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?", "<time>"),
    (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "<mail>"),
    (r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", "<address>"),
    (r"\[[0-9a-fA-F:]*:[0-9a-fA-F:]*\](?::\d+)?", "<address>"),
    (r"\b0x[0-9a-fA-F]+\b", "<address>"),
    (r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b", "<hex>"),
    (r"\d+(?:[.,]\d+)*", "<n>"),
)
_PATTERNS = tuple((re.compile(pattern), name) for pattern, name in _VARIABLE)

_CAUSED = re.compile(r"^caused by ", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<file>[^"]*)", line \d+, in (?P<function>.*)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cause:
    """What letters of one group have in common."""

    subscription: Subscription
    reason: str
    error: str  # without what differs each time
    place: str  # `file.py function` in which it was raised; "" where nobody knows


@dataclass(frozen=True, slots=True)
class Deaths:
    """The letters of one cause."""

    cause: Cause
    count: int
    first_at: float  # the earliest failure of any of them: wall clock, seconds since 1970
    last_at: float
    example: DeadLetter  # the latest of them


def normalised(error: str) -> str:
    """An error without what differs each time."""
    text = " ".join(error[:_MAX_ERROR].split())
    for pattern, name in _PATTERNS:
        text = pattern.sub(name, text)
    return text


def place_of(stack: str) -> str:
    """Where the failure itself was raised: the innermost call of its stack, without its causes."""
    frames = _FRAME.findall(_CAUSED.split(stack, maxsplit=1)[0])
    if not frames:
        return ""
    path, function = frames[-1]
    file = path.replace("\\", "/").rpartition("/")[2]
    return f"{file} {function.rpartition('<locals>.')[2]}"


def cause_of(letter: DeadLetter) -> Cause:
    said, stack = taken_apart(letter.error)
    return Cause(letter.subscription, letter.reason, normalised(said), place_of(stack))


@dataclass(slots=True)
class Tally:
    """Counts letters by cause, one after another, in bounded memory."""

    total: int = 0
    _found: dict[Cause, Deaths] = field(default_factory=dict)

    def add(self, letter: DeadLetter) -> None:
        self.total += 1
        cause = cause_of(letter)
        if cause not in self._found and len(self._found) >= MAX_CAUSES:
            cause = Cause(letter.subscription, letter.reason, _OTHERS, "")
        first = letter.failed_at or letter.died_at
        known = self._found.get(cause)
        if known is None:
            self._found[cause] = Deaths(cause, 1, first, letter.died_at, letter)
            return
        later = letter.died_at >= known.last_at
        self._found[cause] = replace(
            known,
            count=known.count + 1,
            first_at=min(known.first_at, first),
            last_at=max(known.last_at, letter.died_at),
            example=letter if later else known.example,
        )

    def causes(self) -> list[Deaths]:
        """The most frequent first."""
        return sorted(self._found.values(), key=lambda each: (-each.count, -each.last_at))


def tally(letters: Iterable[DeadLetter]) -> Tally:
    counted = Tally()
    for letter in letters:
        counted.add(letter)
    return counted


def by_reason(causes: Iterable[Deaths]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for each in causes:
        counts[each.cause.reason] = counts.get(each.cause.reason, 0) + each.count
    return counts
