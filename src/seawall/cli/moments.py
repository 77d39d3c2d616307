"""Times as operators write and read them. Pure: now is an argument."""

import re
from datetime import UTC, datetime

from seawall.cli.failure import USAGE, Failure

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment(text: str, now: float) -> float:
    """`30m`, `2h`, `3d` ago, or an ISO time (UTC unless it says otherwise): seconds since 1970."""
    if match := _AGO.fullmatch(text):
        return now - float(match[1]) * _SECONDS[match[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Failure(
            f"{text!r} is no time", fix="30m, 2h, 3d, or 2026-11-25T18:30", status=USAGE
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def ago(at: float | None, now: float) -> str:
    """12 s, 4 m, 2 h, 3 d; `-` for never."""
    if at is None:
        return "-"
    seconds = max(0.0, now - at)
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def full_time(at: float | None) -> str:
    if at is None:
        return "not known"
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="milliseconds")[:-6] + " UTC"
