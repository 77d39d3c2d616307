"""Facts of a service's parts, as metrics and log lines."""

import logging
from collections.abc import Callable, Iterable

from seawall.concurrency.guard import Retried as CallRetried
from seawall.messaging.facts import Acked, BrokerAway, BrokerBack, Died, LeaseLost, Retried
from seawall.messaging.outbox import RelayRefused, RelayStalled
from seawall.registry.heartbeat import HeartbeatLost, HeartbeatRestored, PlaceTaken
from seawall.registry.watcher import InstancesSuspected, WatchLost, WatchRestored
from seawall.resilience.breaker import BreakerMoved, State
from seawall.resilience.outlier import Ejected
from seawall.service.calls import CallMade
from seawall.telemetry.metrics import Labels, Metrics

log = logging.getLogger("seawall.service")

_BREAKER_VALUE = {State.CLOSED: 0.0, State.OPEN: 1.0, State.HALF_OPEN: 2.0}


class Observing:
    """An observer that counts and logs. Facts it does not know are left to others."""

    def __init__(self, service: str, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics
        self._breakers: dict[str, State] = {}
        metrics.readings(
            "seawall_breaker_state",
            "0 closed, 1 open, 2 half-open",
            ("caller", "callee"),
            self._breaker_states,
        )
        self._moves = metrics.counts(
            "seawall_breaker_transitions", "Moves of circuit breakers", ("caller", "callee", "to")
        )
        self._retries = metrics.counts(
            "seawall_retries", "Tries after the first", ("caller", "callee", "outcome")
        )
        self._ejections = metrics.counts(
            "seawall_outlier_ejections", "Instances left out for a while", ("caller",)
        )
        self._outcomes = metrics.counts(
            "messaging_client_consumed_messages",
            "Messages handled, by outcome",
            ("messaging_destination_name", "messaging_consumer_group_name", "outcome"),
        )
        self._kinds: dict[type, Callable[..., None]] = {
            CallMade: self._call_made,
            CallRetried: self._call_retried,
            BreakerMoved: self._breaker_moved,
            Ejected: self._ejected,
            Acked: self._acked,
            Retried: self._retried,
            Died: self._died,
            LeaseLost: self._lease_lost,
        }

    def __call__(self, fact: object) -> None:
        kind = self._kinds.get(type(fact))
        if kind is not None:
            kind(fact)
        elif isinstance(fact, _WARNED):
            log.warning("%s", fact, extra={"event": type(fact).__name__})
        elif isinstance(fact, _TOLD):
            log.info("%s", fact, extra={"event": type(fact).__name__})

    def _breaker_states(self) -> Iterable[tuple[Labels, float]]:
        for callee, state in tuple(self._breakers.items()):
            yield (self._service, callee), _BREAKER_VALUE[state]

    def _call_made(self, fact: CallMade) -> None:
        self._metrics.called(fact.method, fact.callee, fact.status, fact.error, fact.seconds)

    def _call_retried(self, fact: CallRetried) -> None:
        self._retries.add((self._service, fact.name, type(fact.error).__name__))

    def _breaker_moved(self, fact: BreakerMoved) -> None:
        if len(self._breakers) < 1000 or fact.name in self._breakers:  # services and instances
            self._breakers[fact.name] = fact.now
        self._moves.add((self._service, fact.name, fact.now.value))
        say = log.warning if fact.now is State.OPEN else log.info
        say("the breaker of %s is %s", fact.name, fact.now.value, extra={"event": "BreakerMoved"})

    def _ejected(self, fact: Ejected) -> None:
        self._ejections.add((self._service,))
        log.warning("%s is left out after %d failures", fact.key, fact.failures)

    def _acked(self, fact: Acked) -> None:
        topic, group = fact.subscription.topic, fact.subscription.group
        for seconds in fact.seconds:
            self._metrics.handled(topic, group, "", seconds)
        self._outcomes.add((topic, group, "ok"), len(fact.seconds))

    def _retried(self, fact: Retried) -> None:
        self._outcomes.add((fact.subscription.topic, fact.subscription.group, "retried"))
        log.warning(
            "message %s on %s failed at attempt %d, again in %.1f s: %s",
            *(fact.message_id, fact.subscription.topic, fact.attempt, fact.delay, fact.error),
        )

    def _died(self, fact: Died) -> None:
        self._outcomes.add((fact.subscription.topic, fact.subscription.group, "dead"))
        log.error(
            "message %s on %s is a dead letter (%s): %s",
            *(fact.message_id, fact.subscription.topic, fact.reason, fact.error),
        )

    def _lease_lost(self, fact: LeaseLost) -> None:
        self._outcomes.add((fact.subscription.topic, fact.subscription.group, "lease lost"))


_WARNED = (
    *(BrokerAway, RelayStalled, RelayRefused, HeartbeatLost, PlaceTaken),
    *(InstancesSuspected, WatchLost),
)
_TOLD = (BrokerBack, HeartbeatRestored, WatchRestored)
