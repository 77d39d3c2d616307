"""Whether the declared times, tries and connections fit each other.

a release        drain of a service >= the longest that one of its handlers says it takes
a call           the caller waits longer than the callee waits for those whom it calls
a request        tries x time of each <= the time that the route gives the whole
a retry          one layer tries again, not two
a database       pool x replicas <= connections that the server takes
turns            of replicas are kept somewhere
a split          by versions only where the registry knows those of single pods
"""

from collections.abc import Iterator, Sequence

from seawall.deploy.check import Finding
from seawall.deploy.workload import Workload, cluster_registry
from seawall.messaging.consumer_config import ConsumerConfig
from seawall.registry.connect import beside
from seawall.spec.project import Spec

# What a handler may take that says nothing: a bound for what hangs, and no statement.
_UNSAID = ConsumerConfig().timeout


def of_declarations(spec: Spec, workloads: Sequence[Workload]) -> list[Finding]:
    """All that does not fit, in a stable order."""
    found = [*handlers(workloads), *nested(workloads), *tries(spec, workloads)]
    found += [*retries(spec, workloads), *connections(spec, workloads), *versions(spec)]
    found += turns(spec, workloads)
    return sorted(set(found))


def handlers(workloads: Sequence[Workload]) -> Iterator[Finding]:
    for workload in workloads:
        for handling in workload.declared.handlings:
            if handling.timeout == _UNSAID or handling.timeout <= workload.drain:
                continue
            group = handling.subscription
            yield Finding(
                f"services.{workload.name}",
                "drain",
                f"its handler of {group.topic} may take {handling.timeout:g} s, and it drains for"
                f" {workload.drain:g} s",
                "at each release such a message is given up half-way, and handled again elsewhere",
                f"drain = {handling.timeout:g}, or a shorter timeout of the handler",
            )


def nested(workloads: Sequence[Workload]) -> Iterator[Finding]:
    """Who is called may itself be waiting for others; its caller must not be gone by then."""
    by_name = {workload.name: workload for workload in workloads}
    for workload in workloads:
        for call in workload.declared.calls:
            callee = by_name.get(call.callee)
            inner = () if callee is None else callee.declared.calls
            longest = max((each.timeout for each in inner), default=0.0)
            if call.timeout <= longest:
                yield Finding(
                    f"services.{workload.name}",
                    "timeout",
                    f"it waits {call.timeout:g} s for {call.callee}, which waits {longest:g} s"
                    " for those it calls",
                    "work goes on for a caller that has given up",
                    f"a client of {call.callee} with more than {longest:g} s",
                )


def _longest_try(workload: Workload) -> float:
    """Seconds after which a service has tried everything."""
    return max((c.timeout * c.attempts for c in workload.declared.calls), default=0.0)


def tries(spec: Spec, workloads: Sequence[Workload]) -> Iterator[Finding]:
    by_name = {workload.name: workload for workload in workloads}
    for route in spec.gateway.routes:
        if route.service is None or route.stream:
            continue
        per_try, attempts = route.timeouts.per_try, route.retry.attempts
        if attempts > 1 and per_try * attempts > route.timeout:
            yield Finding(
                f"gateway.routes {route.path}",
                "deadline",
                f"{attempts} tries of {per_try:g} s are longer than its {route.timeout:g} s",
                "the last tries are never made to their end",
                f"timeouts.per_try of at most {route.timeout / attempts:g}, or a longer timeout",
            )
        needed = _longest_try(by_name[route.service])
        if needed > route.timeout:
            yield Finding(
                f"gateway.routes {route.path}",
                "deadline",
                f"{route.service} may take {needed:g} s for its tries, and the route allows"
                f" {route.timeout:g} s",
                "the client has had its 504 when the answer comes",
                f"timeout = {needed:g} for the route, or fewer or shorter tries",
            )


def retries(spec: Spec, workloads: Sequence[Workload]) -> Iterator[Finding]:
    """The gateway tries a route again, and so does the service behind it for its own calls: they
    multiply where the service passes the failure on."""
    by_name = {workload.name: workload for workload in workloads}
    for route in spec.gateway.routes:
        statuses = [on for on in route.retry.on if isinstance(on, int)]
        if route.service is None or route.retry.attempts < 2 or not statuses:
            continue
        again = [c for c in by_name[route.service].declared.calls if c.attempts > 1]
        for call in again:
            yield Finding(
                f"gateway.routes {route.path}",
                "retries",
                f"the gateway tries {route.retry.attempts} times on {statuses}, and {route.service}"
                f" tries {call.callee} {call.attempts} times",
                f"{call.callee} gets {route.retry.attempts * call.attempts} requests for one, just"
                " when it is in trouble",
                'retry.on = ["connect", "reset"] for the route',
            )


def connections(spec: Spec, workloads: Sequence[Workload]) -> Iterator[Finding]:
    """During a release one replica more than the most is there."""
    allowed = spec.deploy.database_connections
    pools = {w.name: w.declared.pool * (w.replicas[1] + 1) for w in workloads if w.declared.pool}
    total = sum(pools.values())
    if allowed is None or total <= allowed:
        return
    told = ", ".join(f"{name} {count}" for name, count in sorted(pools.items()))
    yield Finding(
        "deploy.database_connections",
        "database",
        f"all replicas together may open {total} connections ({told}), and the server takes"
        f" {allowed}",
        "at the height of the load, replicas are refused by the database",
        "smaller pools, fewer replicas at most, or a pooler before the server",
    )


def turns(spec: Spec, workloads: Sequence[Workload]) -> Iterator[Finding]:
    """Schedules and ordered handlers take turns, which a cluster does not keep; of a server that
    the spec does not know nothing is said."""
    servers = spec.messages.url, spec.sessions.url
    if not cluster_registry(spec) or spec.messages.url is None:
        return
    if beside(spec.registry.url or "", *servers) is not None:
        return
    for workload in workloads:
        if workload.declared.takes_turns:
            yield Finding(
                f"services.{workload.name}",
                "turns",
                "it has schedules or ordered handlers, and neither messages nor sessions are in a"
                " Valkey, where its replicas would take turns",
                "it does not start",
                "[sessions] url of a Valkey, or that as [registry]",
            )


def versions(spec: Spec) -> Iterator[Finding]:
    """The cluster's registry knows the version of a Service, the same for all of its pods."""
    if not cluster_registry(spec) or spec.deploy.traffic == "mesh":
        return
    for route in spec.gateway.routes:
        arms = [] if route.split is None else route.split.arms
        of_each = {
            arm.service: {a.version for a in arms if a.service == arm.service} for arm in arms
        }
        for service, several in sorted(of_each.items()):
            if len(several) > 1:
                yield Finding(
                    f"gateway.routes {route.path}",
                    "version",
                    f"it splits {service} by its versions {', '.join(sorted(several))}, and the"
                    " cluster's registry knows one for all of its pods",
                    "every request goes to the version that the Service names, or to none",
                    f"[services.{service}-next] for the other version, or [registry] url of a"
                    ' Valkey, or [deploy] traffic = "mesh"',
                )
