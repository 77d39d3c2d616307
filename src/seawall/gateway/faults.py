"""Faults on purpose: requests that are held back, and those that are ended, by chance.

Only routes that say so have an injector. A delay is one timer of the event loop, which the
exchange cancels if it ends before.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from seawall.gateway.answers import Answer, Flag
from seawall.gateway.choice import Sign, says, signs
from seawall.gateway.dispatch import dispatch
from seawall.gateway.traffic import Abort, Delay, Faults
from seawall.gateway.verdicts import NEITHER

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

_DETAIL: Final = "the route is told to fail"


def seconds(delay: Delay, rng: Random) -> float:
    """How long the next request is held back; 0 = it is not. Pure."""
    if rng.random() * 100 >= delay.percent:
        return 0.0
    return delay.seconds + delay.jitter * rng.random()


def ends(abort: Abort, rng: Random) -> bool:
    """Whether the next request is ended. Pure."""
    return rng.random() * 100 < abort.percent


class Injector:
    """A route's faults, and how many there were."""

    __slots__ = ("_now", "_rng", "_signs", "aborted", "delayed", "faults")

    def __init__(self, faults: Faults, rng: Random, now: Callable[[], float]) -> None:
        self.faults: Faults = faults
        self.delayed: int = 0
        self.aborted: int = 0
        self._signs: tuple[Sign, ...] = signs(faults.match.headers, {}, faults.match.cookies)
        self._rng: Random = rng
        self._now: Callable[[], float] = now

    def disturbs(self, exchange: "Exchange", now: float) -> bool:
        """Whether the request does not go on now: it goes on later, or it is over."""
        faults = self.faults
        if faults.trusted and not exchange.down.trusted:
            return False
        if self._signs and not says(exchange.head, self._signs):
            return False
        if faults.delay is not None:
            wait = seconds(faults.delay, self._rng)
            if wait > 0:
                self.delayed += 1
                exchange.flag = Flag.DELAY_INJECTED
                exchange.due = exchange.deadline
                exchange.down.arm(exchange.deadline)
                exchange.call_later(wait, _go_on)
                return True
        return self.aborts(exchange, now)

    def aborts(self, exchange: "Exchange", now: float) -> bool:
        """Whether the request is ended here."""
        abort = self.faults.abort
        if abort is None or not ends(abort, self._rng):
            return False
        self.aborted += 1
        if abort.reset:
            exchange.broken(Flag.FAULT_INJECTED, now, NEITHER)
        else:
            exchange.refuse(Answer(status=abort.status, flag=Flag.FAULT_INJECTED, detail=_DETAIL))
        return True

    def after_delay(self, exchange: "Exchange") -> None:
        now = self._now()
        if not self.aborts(exchange, now):
            dispatch(exchange, exchange.planned(), now)


def _go_on(exchange: "Exchange") -> None:
    injector = exchange.planned().faults
    assert injector is not None
    injector.after_delay(exchange)
