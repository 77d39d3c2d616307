"""What a handler's decorator says about how it is run, as the configuration of its consumer."""

from dataclasses import replace
from datetime import datetime
from typing import Any, TypedDict

from seawall.errors import Misconfigured
from seawall.messaging.consumer import ConsumerConfig
from seawall.messaging.ordering import Ordered
from seawall.resilience.breaker import BreakerConfig

# Seconds a batch that is not full waits for more, unless its handler says: noticed by nobody who
# waits for a message, and long enough for a busy queue.
LINGER = 0.05


class Rules(TypedDict, total=False):
    """How a handler is run; what is not said is as in `ConsumerConfig`."""

    concurrency: int  # messages at the same time (batches, with `batch`: then it is 1)
    ordered: bool | Ordered  # messages of one key one after the other
    batch: int  # the handler is given lists of at most so many
    linger: float  # seconds a batch waits to become full
    rate: float  # messages a second in this replica
    breaker: BreakerConfig  # failures that pause consumption


def consumer_config(config: ConsumerConfig | None, rules: Rules) -> ConsumerConfig:
    """`config`, or the usual one, with `rules` over it. Raises `Misconfigured`."""
    changes: dict[str, Any] = dict(rules)
    ordered = changes.pop("ordered", None)
    if isinstance(ordered, Ordered):
        changes["ordered"] = ordered
    elif ordered is not None:
        changes["ordered"] = Ordered() if ordered else None
    if "batch" in changes and config is None:
        changes.setdefault("concurrency", 1)
        changes.setdefault("linger", LINGER)
    try:
        return replace(config or ConsumerConfig(), **changes)
    except TypeError as exc:
        raise Misconfigured(f"no handler is declared so: {exc}") from exc


def delay_until(at: datetime | None, delay: float, wall: float) -> float:
    """Seconds from now, `wall`, until a message is due. Raises `Misconfigured`."""
    if at is None:
        return delay
    if delay:
        raise Misconfigured("delay and at say the same thing", fix="one of them")
    if at.tzinfo is None:
        raise Misconfigured(
            f"at={at} has no time zone", fix="datetime.now(UTC) + ... or ZoneInfo('...')"
        )
    return max(0.0, at.timestamp() - wall)
