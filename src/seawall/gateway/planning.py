"""How a route spreads, copies and disturbs requests, made of its configuration before any."""

from seawall.gateway.clusters import Clusters
from seawall.gateway.config import Route
from seawall.gateway.faults import Injector
from seawall.gateway.mirroring import Copies, Mirroring
from seawall.gateway.proxy import Proxy
from seawall.gateway.splitting import PlannedArm, Splitter


class Traffic:
    """What a route does with its requests besides sending each to its service."""

    __slots__ = ("faults", "mirror", "split")

    def __init__(
        self,
        split: Splitter | None = None,
        mirror: Mirroring | None = None,
        faults: Injector | None = None,
    ) -> None:
        self.split: Splitter | None = split
        self.mirror: Mirroring | None = mirror
        self.faults: Injector | None = faults


def traffic(route: Route, clusters: Clusters, copies: Copies, proxy: Proxy) -> Traffic:
    """What a route says about it; most say nothing."""
    mirror, faults = route.mirror, route.faults
    mirroring: Mirroring | None = None
    if mirror is not None:
        cluster = clusters.cluster(mirror.service, mirror.version)
        mirroring = Mirroring(mirror, cluster, copies, proxy.rng, proxy.now)
    return Traffic(
        _splitter(route, clusters, proxy),
        mirroring,
        None if faults is None else Injector(faults, proxy.rng, proxy.now),
    )


def _splitter(route: Route, clusters: Clusters, proxy: Proxy) -> Splitter | None:
    split = route.split
    if split is None:
        return None
    arms = [
        PlannedArm(
            arm,
            split.experiment or route.label,
            clusters.cluster(arm.service, arm.version),
            proxy.metrics.route(route.label, arm.service, arm.label),
        )
        for arm in split.arms
    ]
    return Splitter(split, tuple(arms), proxy.ids)
