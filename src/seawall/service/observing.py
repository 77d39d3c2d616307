"""Facts of a service's parts, as metrics and log lines."""

import logging
from collections.abc import Callable

from seawall.concurrency.guard import GaveUp
from seawall.concurrency.guard import Retried as CallRetried
from seawall.identity.credentials import CertificateRenewed, CertificateUnusable, PeerRefused
from seawall.messaging.announcements import Unheard
from seawall.messaging.facts import (
    Acked,
    BrokerAway,
    BrokerBack,
    ConsumerRecovered,
    ConsumerStalled,
    ConsumptionPaused,
    ConsumptionResumed,
    Died,
    KeyParked,
    LeaseLost,
    Published,
    PublishFailed,
    Retried,
)
from seawall.messaging.relay import RelayRefused, RelayStalled
from seawall.registry.heartbeat import HeartbeatLost, HeartbeatRestored, PlaceTaken
from seawall.registry.watcher import InstancesSuspected, WatchLost, WatchRestored
from seawall.resilience.breaker import BreakerMoved, State
from seawall.resilience.outlier import Ejected
from seawall.service.admission import Overloaded, Relieved
from seawall.service.calls import CallMade
from seawall.service.requests import ReplyDropped
from seawall.service.schedules import TickFired, TicksDelayed
from seawall.telemetry.metrics import Metrics

log = logging.getLogger("seawall.service")


class Observing:
    """An observer that counts and logs. Facts it does not know are left to others."""

    def __init__(self, service: str, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics
        self._moves = metrics.counts(
            "seawall_breaker_transitions", "Moves of circuit breakers", ("caller", "callee", "to")
        )
        self._retries = metrics.counts(
            "seawall_retries",
            "Tries that failed: retried, or why not",
            ("caller", "callee", "outcome"),
        )
        self._ejections = metrics.counts(
            "seawall_outlier_ejections", "Instances left out for a while", ("caller",)
        )
        self._outcomes = metrics.counts(
            "messaging_client_consumed_messages",
            "Messages handled, by outcome",
            ("messaging_destination_name", "messaging_consumer_group_name", "outcome"),
        )
        self._redeliveries = metrics.counts(
            "seawall_queue_redeliveries",
            "Messages that failed and are delivered again",
            ("queue", "group"),
        )
        self._stalls = metrics.counts(
            "seawall_consumer_stalls",
            "Times that messages waited, none came, and the consumer connected anew",
            ("queue", "group"),
        )
        self._pauses = metrics.counts(
            "seawall_consumer_pauses",
            "Times that failing handlers paused consumption",
            ("queue", "group"),
        )
        self._ticks = metrics.counts(
            "seawall_schedule_ticks", "Ticks that this replica fired", ("service", "schedule")
        )
        self._dropped = metrics.counts(
            "seawall_replies_dropped", "Answers that nobody waited for any more", ("service",)
        )
        self._refused = metrics.counts(
            "seawall_peers_refused",
            "Connections and callers refused for their certificate, or theirs of ours",
            ("service", "reason"),
        )
        self._sent = metrics.counts(
            "messaging_client_sent_messages",
            "Messages handed to the broker, by outcome",
            ("messaging_destination_name", "outcome"),
        )
        self._sending = metrics.durations(
            "messaging_client_operation_duration_seconds",
            "Duration of storing a batch of messages",
            ("messaging_destination_name", "messaging_operation_name"),
        )
        self._kinds: dict[type, Callable[..., None]] = {
            CallMade: self._call_made,
            CallRetried: self._call_retried,
            GaveUp: self._gave_up,
            BreakerMoved: self._breaker_moved,
            Ejected: self._ejected,
            Acked: self._acked,
            Published: self._published,
            PublishFailed: self._publish_failed,
            Retried: self._retried,
            Died: self._died,
            LeaseLost: self._lease_lost,
            ConsumerStalled: self._stalled,
            ConsumptionPaused: self._paused,
            TickFired: self._tick_fired,
            ReplyDropped: self._reply_dropped,
            PeerRefused: self._peer_refused,
        }

    def __call__(self, fact: object) -> None:
        kind = self._kinds.get(type(fact))
        if kind is not None:
            kind(fact)
        else:
            told(fact)

    def _call_made(self, fact: CallMade) -> None:
        self._metrics.called(fact.method, fact.callee, fact.status, fact.error, fact.seconds)

    def _call_retried(self, fact: CallRetried) -> None:
        self._retries.add((self._service, fact.name, "retried"))

    def _gave_up(self, fact: GaveUp) -> None:
        self._retries.add((self._service, fact.name, fact.why.name.lower()))

    def _breaker_moved(self, fact: BreakerMoved) -> None:
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

    def _published(self, fact: Published) -> None:
        self._sent.add((fact.topic, "ok"), fact.messages)
        self._sending.observe((fact.topic, "send"), fact.seconds)

    def _publish_failed(self, fact: PublishFailed) -> None:
        self._sent.add((fact.topic, "failed"), fact.messages)

    def _retried(self, fact: Retried) -> None:
        self._outcomes.add((fact.subscription.topic, fact.subscription.group, "retried"))
        self._redeliveries.add((fact.subscription.topic, fact.subscription.group))
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

    def _stalled(self, fact: ConsumerStalled) -> None:
        self._stalls.add((fact.subscription.topic, fact.subscription.group))
        log.warning("%s", fact, extra={"event": "ConsumerStalled"})

    def _paused(self, fact: ConsumptionPaused) -> None:
        self._pauses.add((fact.subscription.topic, fact.subscription.group))
        log.warning("%s", fact, extra={"event": "ConsumptionPaused"})

    def _tick_fired(self, fact: TickFired) -> None:
        self._ticks.add((self._service, fact.schedule))

    def _reply_dropped(self, fact: ReplyDropped) -> None:
        self._dropped.add((self._service,))

    def _peer_refused(self, fact: PeerRefused) -> None:
        self._refused.add((self._service, fact.reason), fact.times)
        told(fact)


def told(fact: object) -> None:
    """Log a fact, if it is one of those that are."""
    if isinstance(fact, _WARNED):
        log.warning("%s", fact, extra={"event": type(fact).__name__})
    elif isinstance(fact, _TOLD):
        log.info("%s", fact, extra={"event": type(fact).__name__})


_WARNED = (
    *(BrokerAway, RelayStalled, RelayRefused, Unheard, HeartbeatLost, PlaceTaken),
    *(InstancesSuspected, WatchLost, KeyParked, TicksDelayed, Overloaded),
    *(PeerRefused, CertificateUnusable),
)
_TOLD = (
    *(BrokerBack, HeartbeatRestored, WatchRestored, Relieved),
    *(ConsumerRecovered, ConsumptionResumed, CertificateRenewed),
)
