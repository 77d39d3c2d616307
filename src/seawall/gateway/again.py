"""What follows a try that failed, or whose answer a route does not take.

Whether the request is sent once more is decided in `seawall.gateway.retrying`; this is what it is
asked, and what is done then. Whoever is still awaited beside the one that failed is awaited first.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from seawall.gateway import admission, fallback, hedging
from seawall.gateway.admission import OVERLOAD
from seawall.gateway.answers import Answer, Flag
from seawall.gateway.attempt import Attempt
from seawall.gateway.retrying import (
    IDEMPOTENCY_KEY,
    RESET,
    SPENT,
    TIMEOUT,
    USED_UP,
    Failed,
    pause_asked,
)
from seawall.gateway.verdicts import BAD, NEITHER
from seawall.resilience.retry import Again, Stop
from seawall.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange


def failed(
    exchange: "Exchange", attempt: Attempt, reason: str, answer: Answer, verdict: int
) -> None:
    """A try has ended without an answer: await another, try once more, or give `answer`.

    `verdict` is on the instance. The service is to blame only if it took too long.
    """
    now = exchange.proxy.now()
    exchange.leave(attempt, verdict, now)
    if exchange.attempt is not None:
        return
    why = _decide(exchange, _failure(exchange, attempt, reason, now), now)
    if isinstance(why, Again):
        _try_after(exchange, why.wait, now)
        return
    if why is Stop.ATTEMPTS and exchange.tries > 1:
        flag = answer.flag if reason == TIMEOUT else Flag.RETRIES_EXHAUSTED
        answer = replace(answer, flag=flag, retryable=False)
    elif why is Stop.BUDGET:
        answer = replace(answer, retryable=False)
    exchange.refuse(answer, BAD if reason == TIMEOUT else NEITHER)


def lost(exchange: "Exchange", attempt: Attempt, served: bool, now: float) -> None:
    """The connection broke before the answer was whole; it had `served` another request before.

    Servers close connections that idle; when one does so just now, it says nothing about it.
    """
    verdict = NEITHER if served and not exchange.status else BAD
    if exchange.status:
        exchange.leave(attempt, verdict, now)
        exchange.broken(Flag.UPSTREAM_CLOSED, now, NEITHER)
        return
    detail = "the instance closed the connection before it answered"
    answer = Answer(status=502, flag=Flag.UPSTREAM_CLOSED, detail=detail)
    failed(exchange, attempt, RESET, answer, verdict)


def sets_aside(
    exchange: "Exchange", attempt: Attempt, head: ResponseHead, ended: bool, now: float
) -> bool:
    """For routes that weigh answers: whether this one is not passed on."""
    if exchange.fell_back:
        return False
    plan, status = exchange.planned(), head.status
    took = now - attempt.began
    admission.observe(exchange, took, status in OVERLOAD, now)
    if plan.hedger is not None:
        plan.hedger.observe(took, now)
        if status >= 500 and exchange.rivals:
            exchange.discard(attempt, status, ended, now)
            return True
        hedging.settle(exchange, attempt, now)
    if status in plan.retrying.statuses and _repeats(exchange, attempt, head, ended, now):
        return True
    standby = plan.fallback
    if standby is None or status not in standby.statuses:
        return False
    instead = fallback.Unwanted(attempt, status, ended)
    verdict = BAD if status >= 500 else NEITHER
    return fallback.stand_in(exchange, str(status), verdict, now, instead)


def _repeats(
    exchange: "Exchange", attempt: Attempt, head: ResponseHead, ended: bool, now: float
) -> bool:
    """Whether the request is sent once more because of this answer."""
    failure = _failure(exchange, attempt, str(head.status), now)
    failure.pause = pause_asked(head.value(b"retry-after"))
    failure.spent = head.value(SPENT).lower() == b"false"
    why = _decide(exchange, failure, now)
    if isinstance(why, Again):
        exchange.discard(attempt, head.status, ended, now)
        _try_after(exchange, why.wait, now)
        return True
    if why in USED_UP and not failure.spent and (exchange.tries > 1 or why is Stop.BUDGET):
        exchange.tell({SPENT.decode(): "false"})
    return False


def _failure(exchange: "Exchange", attempt: Attempt, reason: str, now: float) -> Failed:
    head, asked, last = exchange.head, exchange.tried, attempt.endpoint
    failure = Failed(
        reason,
        number=exchange.tries,
        method=head.method,
        keyed=head.has(IDEMPOTENCY_KEY),
        took=now - attempt.began,
        deadline=exchange.deadline,
    )
    for other in exchange.asked().endpoints:
        if other is not last and other not in asked:
            failure.elsewhere = True
            break
    return failure


def _decide(exchange: "Exchange", failure: Failed, now: float) -> Again | Stop:
    if not exchange.is_replayable():
        return Stop.NOT_IDEMPOTENT
    retrying, budget = exchange.planned().retrying, exchange.asked().budget
    return retrying.decide(failure, budget, exchange.proxy.rng, now)


def _try_after(exchange: "Exchange", wait: float, now: float) -> None:
    exchange.cancel_timer()
    exchange.proxy.metrics.retried(exchange.asked().service)
    exchange.accept_body()
    if wait > 0:
        exchange.rearm()
        exchange.call_later(wait, _waited)
    else:
        exchange.try_once(exchange.asked(), now)


def _waited(exchange: "Exchange") -> None:
    exchange.cancel_timer()
    exchange.try_once(exchange.asked(), exchange.proxy.now())
