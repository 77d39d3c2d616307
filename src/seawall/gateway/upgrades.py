"""How many connections of a route may speak another protocol: a tunnel holds its place long."""

from typing import TYPE_CHECKING

from seawall.gateway import answers, forwarding
from seawall.gateway.answers import Answer, Flag

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange


class LimitUpgrades:
    """A filter that counts them from the handshake on, and refuses one too many with 503."""

    __slots__ = ("_most", "under_way")

    def __init__(self, most: int) -> None:
        self._most: int = most
        self.under_way: int = 0

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        if not forwarding.wanted_upgrade(exchange):
            return None
        if self.under_way >= self._most:
            detail = f"{self._most} upgraded connections are open already"
            return answers.unavailable(Flag.UPSTREAM_OVERFLOW, detail, 1.0)
        self.under_way += 1
        exchange.upgrades = self
        return None

    def leave(self) -> None:
        """The exchange is over, whether the other protocol was spoken or not."""
        self.under_way -= 1
