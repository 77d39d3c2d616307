"""What went wrong, named for what the caller may do next.

In a distributed system the question after a failure is always: may I try again? The type
answers it. Details are data on the error, so nobody has to parse English.

    NotSent         the work never started: trying again, here or elsewhere, is safe
    OutcomeUnknown  it may have happened: try again only what is idempotent
    Refused         the other side answered no: trying again changes nothing
    Misconfigured   a person must change something first
"""


class SeawallError(Exception):
    """Every error Seawall raises on purpose.

    `spent`: whoever raised it has tried again already, as often as it may. To try again on top
    of that multiplies: three layers of three tries are 27 calls.
    """

    spent: bool = False


class NotSent(SeawallError):
    """The work never started. Trying again, here or elsewhere, is safe.

    `retry_after` is how many seconds to wait before it, where somebody knows.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class OutcomeUnknown(SeawallError):
    """The work was handed over and no answer came. Try again only if it is idempotent."""


class Refused(SeawallError):
    """The other side answered no. Trying again changes nothing."""


class Misconfigured(SeawallError):
    """Something a person wrote is wrong. `fix` says what to write instead, where that is known."""

    def __init__(self, reason: str, *, fix: str | None = None) -> None:
        super().__init__(reason if fix is None else f"{reason}\n  fix: {fix}")
        self.reason = reason
        self.fix = fix


class BreakerOpen(NotSent):
    """The circuit breaker of that destination is open."""


class NoInstance(NotSent):
    """No instance of that service, in a wanted version, can be asked now."""


class Full(NotSent):
    """A bulkhead or a bounded queue has no free place."""


class RateLimited(NotSent):
    """A limit is used up; `retry_after` says when it is not."""


class DeadlineExceeded(OutcomeUnknown):
    """The caller's time ran out while the work was under way."""


class Unavailable(NotSent):
    """A server we need (registry, broker, database) cannot be reached now."""
