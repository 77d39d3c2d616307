"""Whether, and when, what died is started again. Pure: time and chance are arguments.

A replica that worked and then died is replaced at once: its callers wait. One that keeps dying
is given longer and longer pauses, so that a service that cannot start costs next to nothing and
disturbs nobody, and is still tried for ever: what it lacked may come back. Only where the project
says so is it given up.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from seawall.errors import Misconfigured


class State(StrEnum):
    """Where the replica in a place is in its life."""

    WAITING = "waiting"  # no process; one is started when it is due
    STARTING = "starting"  # a process that is not ready yet
    READY = "ready"
    UNREADY = "unready"  # was ready, and does not answer its health path now
    STOPPING = "stopping"  # was asked to go
    STOPPED = "stopped"
    FAILED = "failed"  # it died too often, and was given up until a person acts


class Event(StrEnum):
    """What can happen to it."""

    LAUNCHED = "launched"
    PASSED = "passed"  # its health path answered
    FAILED = "failed"  # its health path stopped answering
    DIED = "died"
    STOP = "stop"
    GIVEN_UP = "given up"
    REVIVED = "revived"  # a person acted: it is tried again


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.WAITING, Event.LAUNCHED): State.STARTING,
    (State.WAITING, Event.STOP): State.STOPPED,
    (State.STARTING, Event.PASSED): State.READY,
    (State.STARTING, Event.DIED): State.WAITING,
    (State.STARTING, Event.STOP): State.STOPPING,
    (State.READY, Event.FAILED): State.UNREADY,
    (State.READY, Event.DIED): State.WAITING,
    (State.READY, Event.STOP): State.STOPPING,
    (State.UNREADY, Event.PASSED): State.READY,
    (State.UNREADY, Event.DIED): State.WAITING,
    (State.UNREADY, Event.STOP): State.STOPPING,
    (State.STOPPING, Event.DIED): State.STOPPED,
    (State.STOPPED, Event.LAUNCHED): State.STARTING,
    (State.WAITING, Event.GIVEN_UP): State.FAILED,
    (State.FAILED, Event.REVIVED): State.WAITING,
    (State.FAILED, Event.STOP): State.STOPPED,
}


class IllegalStep(Exception):
    """That event cannot happen in that state: a defect, never a condition to handle."""


def step(state: State, event: Event) -> State:
    """The state after `event`; raises `IllegalStep` if it cannot happen now."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalStep(f"{event} in state {state}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartConfig:
    base: float = 0.1  # seconds; the first pause, doubled at each further death
    cap: float = 15.0  # seconds; short enough that a repaired service is back within a breath
    # One that dies younger than this failed to start, rather than crashed.
    infancy: float = 5.0  # seconds
    # One that ran this long starts with a clean record: to start it at once every ten seconds
    # costs about a hundredth of a core.
    stable: float = 10.0  # seconds
    # So many deaths within the period are called a crash loop, and said aloud.
    intensity: int = 5
    period: float = 60.0  # seconds

    def __post_init__(self) -> None:
        if not 0 < self.base <= self.cap:
            raise Misconfigured(f"0 < base <= cap, not {self.base} and {self.cap}")
        if self.intensity < 1:
            raise Misconfigured(f"intensity is at least 1, not {self.intensity}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows a death: start again after `delay` seconds. `looping`: it dies too often."""

    delay: float
    streak: int  # deaths in a row without a stable run between them
    looping: bool


@dataclass(slots=True)
class Restarts:
    """The record of one place."""

    config: RestartConfig = field(default_factory=RestartConfig)
    total: int = 0
    _streak: int = 0
    _deaths: deque[float] = field(default_factory=deque)

    def died(self, ran_for: float, now: float, rng: Random) -> Verdict:
        """A process that ran for `ran_for` seconds died on its own."""
        config = self.config
        self.total += 1
        if ran_for >= config.stable:
            self._streak = 0
        delay = 0.0
        if self._streak or ran_for < config.infancy:
            # Half of the pause is fixed, so that a crash loop never spins; half is chance, so
            # that replicas felled together by one cause do not come back together.
            ceiling = min(config.cap, config.base * 2.0 ** min(self._streak, 60))
            delay = rng.uniform(ceiling / 2, ceiling)
        self._streak += 1
        self._deaths.append(now)
        while self._deaths[0] <= now - config.period or len(self._deaths) > config.intensity:
            self._deaths.popleft()
        return Verdict(delay, self._streak, len(self._deaths) >= config.intensity)

    def forgive(self) -> None:
        """A person acted (restart, new code): the record starts afresh; the total stays."""
        self._streak = 0
        self._deaths.clear()
