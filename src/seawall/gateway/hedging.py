"""A second try while the first is still awaited: when it is sent, and who wins.

What is usual and affordable is decided in `seawall.resilience.hedge`. The first good answer is
passed on; the other try is cancelled and its connection closed, since what it still brings belongs
to nobody.
"""

from typing import TYPE_CHECKING

from seawall.gateway.attempt import Attempt
from seawall.gateway.verdicts import NEITHER
from seawall.resilience.deadline import Deadline
from seawall.resilience.hedge import Hedger

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange


def watch(exchange: "Exchange", hedger: Hedger, now: float) -> None:
    """The first try is on its way: look again if it takes unusually long."""
    if exchange.fell_back:
        return
    twice = exchange.may_repeat() and exchange.is_kept()
    delay = hedger.delay(
        now, idempotent=twice and not exchange.head.upgrade, deadline=Deadline(exchange.deadline)
    )
    if delay is not None:
        exchange.call_later(delay, hedge)


def hedge(exchange: "Exchange") -> None:
    """No answer within the usual time: ask another instance as well."""
    first, hedger, now = exchange.attempt, exchange.planned().hedger, exchange.proxy.now()
    exchange.cancel_timer()
    if hedger is None or first is None:
        return
    attempt = _rival(exchange, hedger, now)
    if attempt is None:
        return
    exchange.rivals = [*exchange.rivals, attempt]
    exchange.tries += 1
    exchange.proxy.metrics.hedged(exchange.asked().service)
    attempt.begin(now)
    if len(exchange.rivals) < hedger.most:
        exchange.call_later(now - first.began, hedge)


def _rival(exchange: "Exchange", hedger: Hedger, now: float) -> Attempt | None:
    """A try at an instance that is not asked yet, if there is one and it may be sent."""
    cluster = exchange.asked()
    asked = [*exchange.tried, *[attempt.endpoint for attempt in exchange.under_way()]]
    if all(endpoint in asked for endpoint in cluster.endpoints):
        return None
    picked = cluster.pick(now, asked, "" if cluster.key is None else cluster.key(exchange))
    if picked is None:
        return None
    endpoint, permit = picked
    if endpoint in asked or not hedger.hedge(now):
        endpoint.breaker.cancelled(permit, now)
        return None
    return Attempt(exchange, cluster, endpoint, permit, now)


def settle(exchange: "Exchange", winner: Attempt, now: float) -> None:
    """`winner` has the answer: the others are cancelled, which says nothing about them."""
    exchange.cancel_timer()
    if not exchange.rivals:
        return
    for attempt in exchange.under_way():
        if attempt is not winner:
            attempt.drop(NEITHER, now)
    exchange.attempt, exchange.rivals = winner, []
    exchange.instance = winner.endpoint.log_text
