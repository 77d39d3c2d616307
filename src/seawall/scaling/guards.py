"""What no policy may do, whatever it thinks: add processes that cannot help, take busy ones away,
scale in on half of the figures."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from seawall.scaling.combine import capped, vetoed
from seawall.scaling.decision import Decision, Limit

# Above this share all cores are as good as busy: the rest is what the kernel leaves idle between
# two switches.
BUSY = 0.95

# Replicas that use less of a core each wait for something else, and more of them do help.
OWN = 0.5

# Below this share of memory another process makes the machine swap.
FREE = 0.05


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the replicas run. None for what is not known."""

    cores: int
    busy: float | None = None  # 0 to 1, of all cores together
    free: float | None = None  # 0 to 1, of memory
    own: float | None = None  # cores that the service's replicas use together


def bounded_by_machine(current: int, decision: Decision, machine: Machine) -> Decision:
    """No more than there are where more processes cannot help: then only shedding does."""
    if decision.desired <= current:
        return decision
    if machine.free is not None and machine.free < FREE:
        return capped(decision, current, f"{machine.free:.0%} of memory is free")
    saturated = machine.busy is not None and machine.busy >= BUSY
    if saturated and machine.own is not None and machine.own >= OWN * max(1, current):
        cores = "the core is" if machine.cores == 1 else f"all {machine.cores} cores are"
        return capped(decision, current, f"{cores} busy")
    return decision


def held_unless_whole(current: int, decision: Decision, unheard: Collection[str]) -> Decision:
    """Only outward while some replica did not tell its figures: they are more than they seem."""
    if decision.desired >= current or not unheard:
        return decision
    why = f"{decision.reason}; no scaling in: {', '.join(sorted(unheard))} did not tell"
    limits = (*decision.limits, Limit.METRIC_FAILED)
    return replace(decision, desired=current, reason=why, limits=limits)


def sparing_the_busy(current: int, decision: Decision, idle: int) -> Decision:
    """Only as many leave as have no message in their hands."""
    if decision.desired >= current or current - decision.desired <= idle:
        return decision
    if idle == 0:
        return vetoed(current, decision, ("each replica is handling messages",))
    why = f"{decision.reason}; the others are handling messages"
    return replace(
        decision, desired=current - idle, reason=why, limits=(*decision.limits, Limit.VETO)
    )
