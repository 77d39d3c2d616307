"""What a handler can say about a message beside "done", which it says by returning.

Both are exceptions, so that they can be raised from any depth; a handler may also return one.
"""

from seawall.errors import SeawallError


class Retry(SeawallError):
    """Not now: deliver it again.

    After `after` seconds where the handler knows better than the retry policy when that makes
    sense. The attempt counts; the policy's bound on attempts holds.
    """

    def __init__(self, after: float | None = None, reason: str = "") -> None:
        super().__init__(reason or "the handler asked for a retry")
        self.after = after
        self.reason = reason


class Reject(SeawallError):
    """Never: put it among the dead letters. Trying again would change nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Undecodable(Reject):
    """The body or its envelope cannot be read; the dead letter keeps the raw bytes."""
