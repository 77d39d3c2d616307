"""What happens when a time is up: of a try, between two bytes of an answer, or of the whole."""

from typing import TYPE_CHECKING

from seawall.gateway import admission, again, answers
from seawall.gateway.answers import Flag
from seawall.gateway.retrying import TIMEOUT
from seawall.gateway.verdicts import BAD, GOOD, NEITHER
from seawall.wire import headers

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange


def expired(exchange: "Exchange", now: float) -> None:
    """The exchange is due."""
    late = now >= exchange.deadline
    if late and exchange.down.half_closed:
        exchange.client_gone(Flag.CLIENT_CLOSED)
        exchange.down.abort()
    elif exchange.status:
        _answer_expired(exchange, late, now)
    elif not late:
        _tries_expired(exchange, now)
    elif not exchange.body_done:
        exchange.give_up(answers.bad_request(408, "the request's body did not come in time"))
    else:
        # A client that gives no time says nothing about the service.
        verdict = NEITHER if headers.DEADLINE in exchange.head.boundary else BAD
        exchange.drop(now, verdict)
        if verdict == BAD:
            admission.observe(exchange, now - exchange.started, True, now)
        exchange.refuse(_too_late(exchange, now), verdict)


def _answer_expired(exchange: "Exchange", late: bool, now: float) -> None:
    if exchange.tunnel is not None and exchange.tunnel.is_used_up(now):
        exchange.tunnel.use_up(now)
        return
    if exchange.down.write_paused and not late:
        exchange.touch(now)  # its reader is slow, for which there is a time of its own
        return
    stream = exchange.stream
    exchange.drop(now, NEITHER if stream else BAD)
    flag = Flag.STREAM_IDLE if stream else Flag.UPSTREAM_TIMEOUT
    exchange.broken(flag, now, GOOD if stream else BAD)


def _tries_expired(exchange: "Exchange", now: float) -> None:
    """Some of the tries under way have no time left; the whole still has."""
    for attempt in exchange.under_way():
        if attempt.due <= now and not exchange.over:
            admission.observe(exchange, now - attempt.began, True, now)
            again.failed(exchange, attempt, TIMEOUT, _too_late(exchange, now), BAD)
    if not exchange.over:
        exchange.rearm()


def _too_late(exchange: "Exchange", now: float) -> answers.Answer:
    retryable = exchange.tries < 2 and exchange.may_repeat()
    return answers.too_late(now - exchange.started, retryable=retryable)
