"""What is told of an exchange that is over, the same whichever way it ended."""

from typing import TYPE_CHECKING

from seawall.gateway import forwarding, spans
from seawall.gateway.answers import NO_FLAG

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange


def tell(exchange: "Exchange", now: float) -> None:
    """Count its flag, write its line to the log, and its span for whoever collects them."""
    proxy = exchange.proxy
    if exchange.flag is not NO_FLAG:
        proxy.metrics.flagged(exchange.flag)
    if proxy.log.is_on:
        proxy.log.add(forwarding.log_line(exchange, proxy, now))
    if proxy.spans is not None:
        spans.record(exchange, proxy, proxy.spans, now)
