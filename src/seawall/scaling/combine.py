"""One decision of several: any one scales out, all must agree to scale in.

`highest` is what Kubernetes does with metrics and AWS with policies. `with_floor` lifts it (what a
forecast asks for in advance), `vetoed` keeps it from falling (memory is full), `capped` says so
where more processes cannot help.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from seawall.errors import Misconfigured
from seawall.scaling.decision import Decision, Limit


def highest(current: int, decisions: Mapping[str, Decision]) -> Decision:
    """The one that wants most, by name; one that knows nothing holds what there is."""
    if not decisions:
        raise Misconfigured("there is nothing to combine", fix="at least one policy")
    name, best = max(decisions.items(), key=lambda each: (each[1].desired, not each[1].is_held))
    ignorant = [name for name, decision in decisions.items() if decision.is_held]
    if ignorant and best.desired < current:
        reason = f"{', '.join(ignorant)} cannot say, so nothing scales in"
        return Decision(current, reason, (Limit.METRIC_FAILED,))
    return replace(best, reason=f"{name}: {best.reason}")


def with_floor(decision: Decision, floor: int, reason: str, maximum: int) -> Decision:
    """At least `floor` replicas, as far as the maximum allows."""
    floor = min(floor, maximum)
    if decision.desired >= floor:
        return decision
    return replace(decision, desired=floor, reason=reason, limits=(*decision.limits, Limit.FLOOR))


def vetoed(current: int, decision: Decision, vetoes: Sequence[str]) -> Decision:
    """Unchanged, unless it would scale in although somebody objects."""
    if decision.desired >= current or not vetoes:
        return decision
    reason = f"{decision.reason}; no scaling in: {', '.join(vetoes)}"
    return replace(decision, desired=current, reason=reason, limits=(*decision.limits, Limit.VETO))


def capped(decision: Decision, most: int, reason: str) -> Decision:
    """At most `most`, said as a limit of capacity: beyond it only shedding helps."""
    if decision.desired <= most:
        return decision
    told = f"{decision.reason}; capacity-limited: {reason}"
    return replace(decision, desired=most, reason=told, limits=(*decision.limits, Limit.CAPACITY))
