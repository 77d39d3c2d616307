"""What a kernel says: how many replicas, why, and what held it back.

A kernel is a frozen configuration with `begin()`, its state before the first look, and
`decide(state, samples, now)`, which returns the next state and a `Decision`. It does no I/O and
reads no clock, so that the autoscaler, the simulator and whoever asks for an explanation get the
same answer from the same inputs.
"""

from dataclasses import dataclass
from enum import StrEnum

# Kubernetes counts replicas in 32 bits; larger proposals saturate there.
MOST = 2**31 - 1


class Limit(StrEnum):
    """What kept a decision from what the load alone asked for.

    The first seven have the names of the conditions of a HorizontalPodAutoscaler.
    """

    WITHIN_RANGE = "DesiredWithinRange"
    TOO_FEW = "TooFewReplicas"
    TOO_MANY = "TooManyReplicas"
    SCALE_UP = "ScaleUpLimit"
    SCALE_DOWN = "ScaleDownLimit"
    SCALE_UP_STABILIZED = "ScaleUpStabilized"
    SCALE_DOWN_STABILIZED = "ScaleDownStabilized"
    DISABLED = "ScalingDisabled"
    METRIC_FAILED = "MetricFailed"
    NO_DATA = "NoData"
    PANIC = "Panic"
    DELAYED = "ScaleDownDelayed"
    COOLDOWN = "Cooldown"
    WARM_UP = "WarmUp"
    PAUSED = "Paused"
    GRACE = "ScaleToZeroGrace"
    HYSTERESIS = "Hysteresis"
    FLOOR = "Floor"
    VETO = "Veto"
    CAPACITY = "CapacityLimited"
    FALLBACK = "Fallback"


@dataclass(frozen=True, slots=True)
class Decision:
    """`desired` replicas, with the reason in words.

    `proposed` is what the load asked for before any limit; None where nobody knows it, and then
    `desired` is what there is: without knowledge a kernel holds.
    """

    desired: int
    reason: str
    limits: tuple[Limit, ...] = ()
    proposed: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it says nothing but: stay, I do not know."""
        return self.proposed is None
