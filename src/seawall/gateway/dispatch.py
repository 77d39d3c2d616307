"""How a request goes on its way: to which cluster, with what of it taken, and what beside it."""

from typing import TYPE_CHECKING

from seawall.gateway import admission, answers, hedging
from seawall.gateway.answers import Flag

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange
    from seawall.gateway.proxy import Plan


def dispatch(exchange: "Exchange", plan: "Plan", now: float) -> None:
    """Nothing speaks against the request: take what it needs, and send it."""
    if plan.gate is not None:
        refusal = admission.enter(exchange, plan.gate)
        if refusal is not None:
            exchange.refuse(refusal)
            return
    cluster = exchange.cluster = plan.cluster if plan.split is None else plan.split.send(exchange)
    permit = exchange.permit = cluster.enter(now)
    if permit is None:
        flag = Flag.UPSTREAM_OVERFLOW
        exchange.refuse(answers.unavailable(flag, *cluster.why_closed(now)))
        return
    if plan.mirror is not None and plan.mirror.wants(exchange):
        exchange.mirror = plan.mirror
    exchange.due = exchange.deadline
    exchange.down.arm(exchange.deadline)
    exchange.try_once(cluster, now)
    if plan.hedger is not None and not exchange.over:
        hedging.watch(exchange, plan.hedger, now)
