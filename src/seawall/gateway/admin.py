"""The gateway's second, small listener: health, metrics, and what it knows, as JSON.

    /livez      200 while the event loop turns
    /readyz     200 when requests may be sent here; 503 before the registry was read, and draining
    /metrics    Prometheus' text
    /routes     the routes in the order in which they were written
    /upstreams  services, their instances, breakers and connections
    /limits     what is counted, for how many, and how often it refused
    /filters    what filters did, and what they cost
    /config     the configuration that holds, without secrets, and its revision

What is done by POST is in `acting`. It answers one request a connection. It is for operators and
probes: bind it where clients of the gateway cannot reach it, or to a Unix socket.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any

from seawall.clock import SYSTEM, Clock
from seawall.gateway import acting, metrics
from seawall.gateway.acting import Reload
from seawall.gateway.actions import Edits
from seawall.gateway.clusters import Cluster
from seawall.gateway.describing import settings
from seawall.gateway.filters_page import filter_metrics, filter_rows
from seawall.gateway.gateway import Gateway
from seawall.gateway.quota import Rule
from seawall.gateway.traffic import Split
from seawall.gateway.upstream import Endpoint
from seawall.resilience.breaker import State
from seawall.resilience.sharing import SharedLimiter
from seawall.topology import Address
from seawall.wire.http1 import BadMessage, scan_request

# A probe sends its request at once.
_PATIENCE = 5.0  # seconds

# Instances with a series of their own. Those that left have none, and thousands are a sight that
# nobody looks at.
MAX_INSTANCES = 1000

_STATE = {State.CLOSED: 0, State.OPEN: 1, State.HALF_OPEN: 2}

Page = Callable[[Gateway, float], tuple[int, str, str]]


def livez(gateway: Gateway, now: float) -> tuple[int, str, str]:
    return 200, "text/plain", "ok\n"


def readyz(gateway: Gateway, now: float) -> tuple[int, str, str]:
    if gateway.is_ready:
        return 200, "text/plain", f"ready\nrevision {gateway.revision}\n"
    why = "draining" if gateway.proxy.draining else "not all that it needs to know was read yet"
    return 503, "text/plain", why + "\n"


def metrics_text(gateway: Gateway, now: float) -> tuple[int, str, str]:
    gathered = (
        *_cluster_metrics(gateway.cluster_list()),
        *_limit_metrics(gateway),
        *filter_metrics(gateway),
        *_traffic_metrics(gateway),
    )
    more = sorted(gathered)
    return 200, "text/plain; version=0.0.4", metrics.text(gateway.proxy.metrics, more)


def _cluster_metrics(clusters: tuple[Cluster, ...]) -> Iterator[tuple[str, str, str, str, float]]:
    asked = {e.key: e for cluster in clusters for e in cluster.endpoints}
    for endpoint in islice(asked.values(), MAX_INSTANCES):
        service, name = endpoint.instance.service, endpoint.log_name
        yield (
            "seawall_gateway_picks_total",
            "counter",
            "Requests and retries given to an instance.",
            f'{{service="{service}",instance={json.dumps(name, ensure_ascii=False)}}}',
            float(endpoint.requests),
        )
    for cluster in clusters:
        labels = f'{{service="{cluster.service}",version="{cluster.constraint}"}}'
        yield (
            "seawall_breaker_state",
            "gauge",
            "0 closed, 1 open, 2 half-open.",
            labels,
            float(_STATE[cluster.breaker.state]),
        )
        yield (
            "seawall_gateway_instances",
            "gauge",
            "Instances that are ready.",
            labels,
            float(len(cluster.endpoints)),
        )
        yield (
            "seawall_gateway_instances_ejected",
            "gauge",
            "Instances left out because they failed.",
            labels,
            float(len(cluster.ejected)),
        )
        yield (
            "seawall_gateway_instances_unhealthy",
            "gauge",
            "Instances whose active checks fail.",
            labels,
            float(sum(e.health is not None and not e.health.healthy for e in cluster.endpoints)),
        )
        yield (
            "seawall_gateway_ejections_total",
            "counter",
            "How often an instance was left out because it failed.",
            labels,
            float(cluster.ejections),
        )
        yield (
            "seawall_gateway_panic",
            "gauge",
            "1 while so few instances are well that all are asked.",
            labels,
            float(cluster.picker.panic),
        )
        yield from _admission_metrics(cluster)
        yield (
            "seawall_gateway_upstream_requests",
            "gauge",
            "Requests under way to a service.",
            labels,
            float(cluster.in_flight),
        )


def _limit_metrics(gateway: Gateway) -> Iterator[tuple[str, str, str, str, float]]:
    for rule in gateway.counters.rules():
        labels = f"{{limit={json.dumps(rule.name)},where={json.dumps(rule.where)}}}"
        yield (
            "seawall_gateway_limited_total",
            "counter",
            "Requests that a limit refused.",
            labels,
            float(rule.refused),
        )
        yield (
            "seawall_gateway_limit_keys",
            "gauge",
            "Identities, addresses and so on that a limit counts.",
            labels,
            float(len(rule.limiter)),
        )
    yield (
        "seawall_gateway_limits_away",
        "gauge",
        "1 while shared limits are not shared, since their server is away.",
        "",
        float(gateway.leases.is_away),
    )


def limits(gateway: Gateway, now: float) -> tuple[int, str, str]:
    return _json([_limit(rule, now) for rule in gateway.counters.rules()])


def _limit(rule: Rule, now: float) -> dict[str, Any]:
    limit, limiter = rule.limit, rule.limiter
    about: dict[str, Any] = {
        "where": rule.where,
        "name": rule.name,
        "by": limit.by.value,
        "algorithm": limit.algorithm.value,
        "policy": rule.policy,
        "keys": len(limiter),
        "refused": rule.refused,
        "shared": limit.shared,
    }
    if isinstance(limiter, SharedLimiter):
        about |= {
            "when_away": limit.when_away.value,
            "away": limiter.is_away(now),
            "processes": limiter.processes,
            "hot": limiter.hot,
            "unlent": limiter.unlent,
        }
    return about


def _admission_metrics(cluster: Cluster) -> Iterator[tuple[str, str, str, str, float]]:
    admission = cluster.admission
    if admission is None:
        return
    service = f'service="{cluster.service}",version="{cluster.constraint}"'
    yield (
        "seawall_gateway_concurrency_limit",
        "gauge",
        "Requests at once that a service is given, as found from its answer times.",
        f"{{{service}}}",
        float(admission.limit),
    )
    for importance, count in admission.shed().items():
        yield (
            "seawall_gateway_shed_total",
            "counter",
            "Requests refused because others were more important.",
            f'{{{service},importance="{importance}"}}',
            float(count),
        )


def _traffic_metrics(gateway: Gateway) -> Iterator[tuple[str, str, str, str, float]]:
    """Routes with one label are counted together: a series is said once."""
    copied = "seawall_gateway_mirrored_total", "counter", "Copies by what became of them."
    copies = "seawall_gateway_copies", "gauge", "Copies under way."
    disturbed = "seawall_gateway_faults_total", "counter", "Requests disturbed on purpose."
    counts: dict[tuple[str, str, str, str], float] = {}
    for entry in gateway.proxy.routes.entries:
        label, mirror, faults = entry.route.label, entry.value.mirror, entry.value.faults
        found: list[tuple[tuple[str, str, str], str, int]] = []
        if mirror is not None:
            of = {"http_route": label, "service": mirror.config.service}
            found.append((copies, metrics.labels(**of), mirror.in_flight))
            for outcome, count in mirror.counts.items():
                found.append((copied, metrics.labels(**of, outcome=outcome), count))
        if faults is not None:
            for kind, count in (("abort", faults.aborted), ("delay", faults.delayed)):
                found.append((disturbed, metrics.labels(http_route=label, kind=kind), count))
        for what, labels, count in found:
            counts[*what, labels] = counts.get((*what, labels), 0.0) + count
    for key, value in counts.items():
        yield *key, value


def routes(gateway: Gateway, now: float) -> tuple[int, str, str]:
    found = []
    for entry in gateway.proxy.routes.entries:
        route = entry.route
        found.append(
            {
                "name": route.label,
                "host": route.host or None,
                "path": route.path,
                "path_type": "regex" if route.regex else "exact" if route.exact else "prefix",
                "methods": list(route.methods),
                "headers": dict(route.headers),
                "query": dict(route.query),
                "cookies": dict(route.cookies),
                "service": route.service or None,
                "version": str(route.version),
                "split": route.split and _split(route.split),
                "mirror": route.mirror
                and {**asdict(route.mirror), "version": str(route.mirror.version)},
                "faults": route.faults and asdict(route.faults),
                "redirect": route.redirect and asdict(route.redirect),
                "respond": route.respond and {"status": route.respond.status},
                "rewrite": route.rewrite,
                "rewrite_regex": route.rewrite_regex and asdict(route.rewrite_regex),
                "host_rewrite": route.host_rewrite or None,
                "request_headers": _edits(route.request_headers),
                "response_headers": _edits(route.response_headers),
                "max_upgrades": route.max_upgrades,
                "cors": route.cors and asdict(route.cors),
                "compress": list(route.compression.codings) if route.compression else [],
                "auth": route.auth or None,
                "scopes": list(route.scopes),
                "limits": [
                    {"name": limit.label, "by": limit.by.value, "shared": limit.shared}
                    for limit in route.limits
                ],
                "plans": route.plans,
            }
        )
    return _json(found)


def _split(split: Split) -> dict[str, object]:
    arms = [
        {
            "name": arm.label,
            "service": arm.service,
            "version": str(arm.version),
            "weight": arm.weight,
            "match": asdict(arm.match),
        }
        for arm in split.arms
    ]
    return {**asdict(split), "arms": arms}


def _edits(edits: Edits) -> dict[str, list[str]] | None:
    """Names only: values may be secrets that a service wants to hear."""
    named = {"remove": edits.remove, "set": edits.set, "add": edits.add}
    return {what: list(names) for what, names in named.items() if names} or None


def upstreams(gateway: Gateway, now: float) -> tuple[int, str, str]:
    found: list[dict[str, Any]] = []
    for cluster in gateway.cluster_list():
        instances = [_instance(cluster, endpoint) for endpoint in cluster.endpoints]
        found.append(
            {
                "service": cluster.service,
                "version": str(cluster.constraint),
                "balancing": cluster.config.balancing.value,
                "hash_on": cluster.config.hash_on or None,
                "sticky": None if cluster.config.sticky is None else cluster.config.sticky.cookie,
                "panic": cluster.picker.panic,
                "breaker": cluster.breaker.state.value,
                "retry_after": cluster.breaker.retry_after(now),
                "in_flight": cluster.in_flight,
                "retries_left": cluster.budget.left(now),
                "hedges": gateway.proxy.metrics.hedges.get(cluster.service, 0),
                "adaptive": _adaptive(cluster),
                "why_empty": cluster.why_empty or None,
                "instances": instances,
            }
        )
    return _json(found)


def _adaptive(cluster: Cluster) -> dict[str, Any] | None:
    """The service's own limit now, and what of it each importance has."""
    admission, config = cluster.admission, cluster.config.adaptive
    if admission is None or config is None:
        return None
    shed = admission.shed()
    shares = {
        one.name: {"share": one.share, "under_way": one.taken, "shed": shed[one.name]}
        for one in admission.snapshot()
    }
    return {"kind": config.kind, "limit": admission.limit, **shares}


def _instance(cluster: Cluster, endpoint: Endpoint) -> dict[str, Any]:
    instance, health, ewma = endpoint.instance, endpoint.health, cluster.picker.ewma
    starting = endpoint.weight != instance.weight
    return {
        "instance": instance.instance_id,
        "version": instance.version,
        "address": str(instance.address),
        "zone": instance.zone or None,
        "priority": instance.priority,
        "weight": instance.weight,
        "slow_start_weight": round(endpoint.weight, 1) if starting else None,
        "ewma_ms": None if ewma is None else round(ewma.cost(endpoint) * 1000, 3),
        "in_flight": endpoint.in_flight,
        "requests": endpoint.requests,
        "connections": endpoint.connections,
        "idle": len(endpoint.idle),
        "breaker": endpoint.breaker.state.value,
        "health": None if health is None else "healthy" if health.healthy else "unhealthy",
        "ejected": endpoint.key in cluster.ejected,
    }


def config(gateway: Gateway, now: float) -> tuple[int, str, str]:
    said = {"revision": gateway.revision, "name": gateway.config.name}
    return _json(said | {"config": settings(gateway.config)})


def filters(gateway: Gateway, now: float) -> tuple[int, str, str]:
    return _json(filter_rows(gateway))


def _json(value: object) -> tuple[int, str, str]:
    return 200, "application/json", json.dumps(value, indent=2) + "\n"


PAGES: dict[bytes, Page] = {
    b"/livez": livez,
    b"/readyz": readyz,
    b"/metrics": metrics_text,
    b"/routes": routes,
    b"/upstreams": upstreams,
    b"/limits": limits,
    b"/config": config,
    b"/filters": filters,
}


@asynccontextmanager
async def admin(
    gateway: Gateway,
    where: Address | Path,
    *,
    clock: Clock = SYSTEM,
    reload: Reload | None = None,
) -> AsyncIterator[Address]:
    """Answer at an address, or on a Unix socket, while the block is open.

    `reload` is what `POST /reload` does. A Unix socket is left behind, and replaced by who
    answers there next. Raises `OSError` if it cannot be bound.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                data = await reader.readuntil(b"\r\n\r\n")
            writer.write(await _answer(gateway, data, clock.now(), reload))
            async with asyncio.timeout(_PATIENCE):
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the asker is gone, or is none
        finally:
            writer.close()

    if isinstance(where, Path):
        server = await asyncio.start_unix_server(answer, where)
    else:
        server = await asyncio.start_server(answer, where.host, where.port)
    try:
        name = server.sockets[0].getsockname()
        yield Address(str(name[0]), int(name[1])) if isinstance(name, tuple) else Address(name, 0)
    finally:
        server.close()


async def _answer(gateway: Gateway, data: bytes, now: float, reload: Reload | None) -> bytes:
    status, kind, body = 404, "text/plain", "no such page\n"
    head_only, allow = False, ""
    try:
        head = scan_request(data, len(data))
        head_only = head.method == b"HEAD"
        page, acts = PAGES.get(head.path), head.path in acting.PATHS
        allow = "POST" if acts else "GET, HEAD" if page is not None else ""
        if allow and head.method.decode("latin-1") not in allow.split(", "):
            status, body = 405, f"this path takes {allow}\n"
        elif acts:
            status, kind, body = await acting.act(gateway, head, reload)
        elif page is not None:
            status, kind, body = page(gateway, now)
    except BadMessage as bad:
        status, body = bad.status, bad.reason + "\n"
    content = body.encode()
    text = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(content)}\r\ncache-control: no-store\r\nconnection: close\r\n"
    )
    if status == 405:
        text += f"allow: {allow}\r\n"
    return text.encode() + b"\r\n" + (b"" if head_only else content)
