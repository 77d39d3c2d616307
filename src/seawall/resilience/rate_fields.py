"""What a rate limit says in HTTP: `RateLimit-Policy`, `RateLimit` and `Retry-After`.

Names and parameters are those of draft-ietf-httpapi-ratelimit-headers (-08 and later): `q` calls
in `w` seconds is the policy, `r` calls are left and all are back in `t` seconds. `Retry-After` is
RFC 9110, in whole seconds. All are rounded so that who obeys them is admitted.
"""

import math
from typing import Protocol

from seawall.errors import Misconfigured
from seawall.resilience.limiter import Verdict

POLICY = "ratelimit-policy"
LIMIT = "ratelimit"
RETRY_AFTER = "retry-after"


class RateLimit(Protocol):
    """A limit for each key: `KeyedLimiter` and `KeyedWindow`."""

    @property
    def quota(self) -> int: ...
    @property
    def window(self) -> float: ...
    def acquire(self, key: str, now: float) -> Verdict:
        """Take one of `key`'s calls, if it has one left."""
        ...


def policy_field(name: str, limit: RateLimit) -> str:
    """The value of `RateLimit-Policy`; it never changes, so keep it.

    Raises `Misconfigured` if `name` does not fit into a field.
    """
    window = max(1, math.ceil(limit.window))
    return f"{_string(name)};q={limit.quota};w={window}"


def limit_field(name: str, verdict: Verdict) -> str:
    """The value of `RateLimit`, of a limit whose name `policy_field` has accepted."""
    return f'"{name}";r={verdict.remaining};t={whole_seconds(verdict.reset)}'


def whole_seconds(seconds: float) -> int:
    """Not fewer than `seconds`, which are not negative."""
    whole = int(seconds)
    return whole if whole == seconds else whole + 1


def retry_after_field(verdict: Verdict) -> str:
    """The value of `Retry-After`, for a call that was refused."""
    return str(max(1, math.ceil(verdict.retry_after)))


def _string(text: str) -> str:
    """A string of RFC 8941; we give no name that would have to be escaped."""
    if not (text.isascii() and text.isprintable()) or '"' in text or "\\" in text:
        raise Misconfigured(f"a limit's name is plain ASCII without quotes, not {text!r}")
    return f'"{text}"'
