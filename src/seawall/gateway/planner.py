"""Makes routes and their plans of a configuration, beside those that are in use.

What outlives a change (clusters, rules of limits, metrics) is asked for by name while the plans
are made, and found if it is there already. Nothing that is in use changes before `adopt`: where a
route turns out to be wrong, the draft is left to itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from seawall.clock import cpu
from seawall.gateway.auth import Provider
from seawall.gateway.changes import by_place
from seawall.gateway.clusters import Clusters
from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.custom import Chain, Watch
from seawall.gateway.extension import Extensions, Made
from seawall.gateway.filters import Filter, filters, finishers
from seawall.gateway.mirroring import Copies
from seawall.gateway.planning import traffic
from seawall.gateway.policies import policies
from seawall.gateway.proxy import Plan, Proxy
from seawall.gateway.quota import Counters
from seawall.gateway.routes import Routes

_Footing = tuple[GatewayConfig, Mapping[str, Provider], dict[str, Plan]]


class Planner:
    """The plans of one gateway, as it is configured now and next."""

    def __init__(
        self,
        proxy: Proxy,
        clusters: Clusters,
        counters: Counters,
        copies: Copies,
        wall: Callable[[], float],
    ) -> None:
        self._proxy = proxy
        self._clusters = clusters
        self._counters = counters
        self._copies = copies
        self._wall = wall
        self.extensions = Extensions(Watch(proxy.now, cpu, proxy.observer))
        self._config = proxy.config
        self._providers: Mapping[str, Provider] = {}
        self._plans: dict[str, Plan] = {}  # in use, by place
        self._next: _Footing = (self._config, self._providers, self._plans)

    def draft(self, config: GatewayConfig, providers: Mapping[str, Provider]) -> Routes[Plan]:
        """The routes of a configuration. Raises `Misconfigured`."""
        self.extensions.draft()
        self._counters.draft()
        self._clusters.draft(config)
        self._proxy.metrics.draft()
        alike = _for_all(config) == _for_all(self._config)
        places = {id(route): place for place, route in by_place(config.routes).items()}
        plans: dict[str, Plan] = {}

        def plan(route: Route) -> Plan:
            place = places[id(route)]
            before = self._plans.get(place) if alike else None
            found = self._plan(route, config, providers)
            if before is not None and before.route == route and self._knows(route, providers):
                found = before  # with all that is its own: bulkhead, hedges, what it has learned
            plans[place] = found
            return found

        routes = Routes(config.routes, plan)
        self._next = (config, providers, plans)
        return routes

    def adopt(self, now: float) -> None:
        """What was drafted last is in use from now on."""
        self._config, self._providers, self._plans = self._next
        self.extensions.adopt()
        self._counters.adopt(now)
        self._proxy.metrics.adopt()
        self._clusters.adopt(now)

    def _knows(self, route: Route, providers: Mapping[str, Provider]) -> bool:
        return providers.get(route.auth) is self._providers.get(route.auth)

    def _counted(self, chain: tuple[Filter, ...], custom: Sequence[Made]) -> Chain:
        """The filters with what each costs. Those of ours are known by their classes."""
        known = {id(one.check): one.cost for one in custom}
        costs = [
            known.get(id(one)) or self.extensions.cost(type(one).__name__, "built-in")
            for one in chain
        ]
        return Chain(chain, tuple(costs), self.extensions.watch.cpu)

    def _plan(self, route: Route, config: GatewayConfig, providers: Mapping[str, Provider]) -> Plan:
        clusters, service = self._clusters, route.service
        custom = self.extensions.all((*config.filters, *route.filters))
        chain = filters(route, config, providers, self._counters, self._wall, custom)
        planned = traffic(route, clusters, self._copies, self._proxy)
        if planned.split is not None:
            cluster = planned.split.arms[0].cluster
        else:
            cluster = clusters.cluster(service, route.version) if service else clusters.nobody()
        return Plan(
            route,
            cluster,
            self._counted(chain, custom) if chain else None,
            finishers(route, custom),
            self._proxy.metrics.route(route.label, cluster.service),
            config.edge.max_body,
            policies(route, cluster, clusters),
            planned,
        )


def _for_all(config: GatewayConfig) -> GatewayConfig:
    """What holds for all routes."""
    return replace(config, routes=())
