"""Numbers as HTTP writes them: digits and nothing else. `int` takes signs, spaces and `_` too."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

# Bodies are counted in 60 bits: what needs more is an attack on somebody's integers.
MAX_DIGITS: Final = 18

_COMPILED: Final = not __file__.endswith(".py")
_ZERO: Final = 0x30


def written(value: bytes) -> int:
    """The number that at most MAX_DIGITS digits write, or -1."""
    if len(value) > MAX_DIGITS:
        return -1
    if _COMPILED:
        return walked(value)
    return int(value) if value.isdigit() else -1


def walked(value: bytes) -> int:
    """The same, for compiled code and at most MAX_DIGITS."""
    number: i64 = 0
    at: i64 = 0
    length: i64 = len(value)
    while at < length:
        digit: i64 = value[at] - _ZERO
        if digit < 0 or digit > 9:
            return -1
        number = number * 10 + digit
        at += 1
    return number if length else -1
