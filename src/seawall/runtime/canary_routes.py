"""How gateways hear of a new version on trial: by a file that they read together with the spec.

A route to the service becomes a split: `stable` as before, and `canary` by its weight. The new
version's processes are registered as a prerelease, which nobody gets who does not ask for it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from seawall.errors import Misconfigured
from seawall.spec.gateway import RouteSpec
from seawall.spec.project import Spec
from seawall.spec.traffic import ArmSpec, SplitSpec, StickySpec

STABLE, CANARY = "stable", "canary"

# A trial is over within minutes or hours; who took part in it need not be known longer.
_STICKY = StickySpec(cookie="seawall-canary", ttl=0)

# Weights are whole numbers: tenths of a per cent.
WHOLE = 1000


@dataclass(frozen=True, slots=True)
class Trial:
    """A version on trial, and its share of the requests."""

    version: str  # 1.3.0-canary
    share: float  # above 0 and below 1


def read(path: Path) -> dict[str, Trial]:
    """The trials of each service; none where there is no file. Raises `Misconfigured`."""
    try:
        return {name: Trial(**said) for name, said in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise Misconfigured(f"{path}: {exc}", fix="remove it; it is made by seawall") from exc


def write(path: Path, trials: Mapping[str, Trial]) -> None:
    """Whole or not at all, since gateways read it when they like."""
    if not trials:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({name: asdict(trial) for name, trial in trials.items()}))
    fresh.replace(path)


def with_trials(spec: Spec, trials: Mapping[str, Trial]) -> Spec:
    """The spec as gateways are to read it."""
    if not trials:
        return spec
    routes = [_route(route, trials) for route in spec.gateway.routes]
    gateway = spec.gateway.model_copy(update={"routes": routes})
    return spec.model_copy(update={"gateway": gateway})


def _route(route: RouteSpec, trials: Mapping[str, Trial]) -> RouteSpec:
    trial = trials.get(route.service or "")
    if trial is None or route.service is None:
        return route
    weight = min(WHOLE - 1, max(1, round(WHOLE * trial.share)))
    arms = [
        ArmSpec(service=route.service, version=route.version, weight=WHOLE - weight, name=STABLE),
        ArmSpec(service=route.service, version=trial.version, weight=weight, name=CANARY),
    ]
    split = SplitSpec(arms=arms, sticky=_STICKY, experiment=f"{CANARY} {route.service}")
    return route.model_copy(update={"service": None, "version": "*", "split": split})


def check(spec: Spec, service: str) -> None:
    """Raises `Misconfigured` where no route could give a part of its requests to a trial."""
    if any(route.service == service for route in spec.gateway.routes):
        return
    splits = any(
        arm.service == service
        for route in spec.gateway.routes
        if route.split is not None
        for arm in route.split.arms
    )
    if splits:
        raise Misconfigured(
            f"the routes to {service} split their requests already",
            fix="give its new version an arm there",
        )
    raise Misconfigured(
        f"no route of the gateway leads to {service}, so none of its requests can be shared out",
        fix=f"a route, or: seawall reload {service}",
    )
