"""What a route does when things go badly, made of its configuration before any request."""

from seawall.errors import Misconfigured
from seawall.gateway.admission import Gate
from seawall.gateway.clusters import Cluster, Clusters
from seawall.gateway.config import Route
from seawall.gateway.fallback import Prepared
from seawall.gateway.retrying import Retrying
from seawall.resilience.hedge import Hedger
from seawall.resilience.shed import Importance
from seawall.topology import ANY


class Policies:
    """A route's own; breaker, budget and adaptive limit are its service's."""

    __slots__ = ("fallback", "gate", "hedger", "retrying")

    def __init__(
        self,
        retrying: Retrying,
        hedger: Hedger | None,
        fallback: Prepared | None,
        gate: Gate | None,
    ) -> None:
        self.retrying: Retrying = retrying
        self.hedger: Hedger | None = hedger
        self.fallback: Prepared | None = fallback
        self.gate: Gate | None = gate

    def weigh_answers(self) -> bool:
        """Whether anybody is interested in an answer before it is passed on."""
        gate, fallback = self.gate, self.fallback
        return (
            self.hedger is not None
            or bool(self.retrying.statuses)
            or (fallback is not None and bool(fallback.statuses))
            or (gate is not None and gate.admission is not None)
        )


def policies(route: Route, cluster: Cluster, clusters: Clusters) -> Policies:
    """The policies of a route to `cluster`. Raises `Misconfigured`."""
    fallback: Prepared | None = None
    if route.fallback is not None:
        name = route.fallback.service
        fallback = Prepared(route.fallback, clusters.cluster(name, ANY) if name else None)
    if route.hedge is not None and cluster.sticky is not None:
        raise Misconfigured(
            f"{route.label}: a hedge leaves the instance that a client sticks to",
            fix="hedge, or sticky",
        )
    gate: Gate | None = None
    tells = route.importance is not Importance.NORMAL
    if route.max_requests is not None or cluster.admission is not None or tells:
        gate = Gate(route.label, route.max_requests, route.importance.value, cluster.admission)
    return Policies(
        Retrying(route.retry, cluster.attempts),
        None if route.hedge is None else Hedger(route.hedge),
        fallback,
        gate,
    )
