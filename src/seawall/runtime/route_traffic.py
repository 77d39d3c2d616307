"""What the spec says of a route's traffic, in the gateway's own words. Pure."""

from seawall.gateway.traffic import Abort, Arm, Delay, Faults, Mirror, Split, When
from seawall.spec.traffic import ArmSpec, FaultsSpec, MirrorSpec, SplitSpec, WhenSpec
from seawall.topology import Constraint


def split(spec: SplitSpec) -> Split:
    sticky = spec.sticky
    return Split(
        arms=tuple(_arm(arm) for arm in spec.arms),
        cookie=sticky.cookie,
        cookie_ttl=sticky.ttl,
        secure=sticky.secure,
        fallback=spec.fallback,
        experiment=spec.experiment or "",
        tell=spec.tell,
    )


def _arm(spec: ArmSpec) -> Arm:
    return Arm(
        service=spec.service,
        version=Constraint.parse(spec.version),
        weight=spec.weight,
        match=_when(spec.match),
        name=spec.name or "",
    )


def mirror(spec: MirrorSpec) -> Mirror:
    return Mirror(
        service=spec.service,
        version=Constraint.parse(spec.version),
        percent=spec.percent,
        max_in_flight=spec.max_in_flight,
        timeout=spec.timeout,
    )


def faults(spec: FaultsSpec) -> Faults:
    return Faults(
        delay=None if spec.delay is None else Delay(**spec.delay.model_dump()),
        abort=None if spec.abort is None else Abort(**spec.abort.model_dump()),
        match=_when(spec.match),
        trusted=spec.trusted,
    )


def _when(spec: WhenSpec) -> When:
    return When(headers=dict(spec.headers), cookies=dict(spec.cookies))
