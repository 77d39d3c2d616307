"""A consumer that gets nothing although messages wait for it: noticed, and connected anew.

Brokers and their clients have lost consumers so, silently, for hours. The decision is pure: it is
told what was seen, and when.
"""

from typing import Protocol, runtime_checkable

from seawall.messaging.base import Subscription

# Looks within the time after which a consumer counts as stalled. One backlog seen and nothing
# delivered proves nothing: somebody else of the group may have been quicker.
LOOKS = 3


@runtime_checkable
class Reconnecting(Protocol):
    """A transport that keeps a connection for each subscription, and can make a new one.

    One that does not has none: each of its fetches is a request of its own.
    """

    async def reconnect(self, subscription: Subscription) -> None:
        """Give the connection of `subscription` back; the next fetch opens another."""


class Watchdog:
    """Says when one consumer has stalled: each of its looks in `after` seconds saw a backlog
    while it asked for messages, and it got none."""

    def __init__(self, after: float) -> None:
        self._after = after
        self._since: float | None = None  # when a backlog was seen first
        self._looks = 0
        self.stalled = 0  # messages that waited when it stalled; 0 if it has not

    def delivered(self) -> None:
        self._forget()
        self.stalled = 0

    def unknown(self) -> None:
        """Nothing can be said now: it does not ask for messages, or nobody tells the backlog."""
        self._forget()

    def look(self, ready: int, now: float) -> float:
        """It asks for messages, got none since the last look, and `ready` wait. Returns how many
        seconds it has been so, if that makes it stalled, else 0.0. It is asked to reconnect once
        in `after` seconds."""
        if not ready:
            self.delivered()
            return 0.0
        if self._since is None:
            self._since = now
        self._looks += 1
        waited = now - self._since
        if self._looks < LOOKS or waited < self._after:
            return 0.0
        self._forget()
        self.stalled = ready
        return waited

    def _forget(self) -> None:
        self._since = None
        self._looks = 0

    def __repr__(self) -> str:
        return f"<Watchdog {'stalled' if self.stalled else 'content'}>"
