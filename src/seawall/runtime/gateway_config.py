"""The gateway's part of the project's spec, in the gateway's own words. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seawall.gateway.actions import Edits, Redirect, RegexRewrite, Respond
from seawall.gateway.balance import HealthCheck, Sticky
from seawall.gateway.compression import Compression
from seawall.gateway.config import Edge, GatewayConfig, Route, Upstreams
from seawall.gateway.cors import Cors
from seawall.gateway.filter_config import FilterConfig, Phase
from seawall.gateway.limits import Algorithm, Limit, LimitBy
from seawall.resilience.admission import Adaptive
from seawall.resilience.balancing import Balancing
from seawall.resilience.sharing import WhenAway
from seawall.resilience.shed import Importance
from seawall.resilience.slow_start import SlowStart
from seawall.runtime import route_traffic
from seawall.runtime.route_policies import fallback, hedge, retry, timeouts
from seawall.spec.gateway import (
    CorsSpec,
    FilterList,
    GatewaySpec,
    HeaderEditsSpec,
    LimitSpec,
    RedirectSpec,
    RouteSpec,
)
from seawall.spec.part import Part
from seawall.spec.upstreams import UpstreamsSpec
from seawall.topology import Constraint


def gateway_config(spec: GatewaySpec, name: str = "gateway", zone: str = "") -> GatewayConfig:
    """What the spec says, in the gateway's own words. Raises `Misconfigured`.

    `zone` is where this process runs, if the spec does not say it.
    """
    tables = dict(spec.upstreams)
    base = upstreams(tables.pop("*", UpstreamsSpec()), Upstreams())
    return GatewayConfig(
        routes=tuple(_route(route, spec) for route in spec.routes),
        plans={
            plan: tuple(_limit(limit) for limit in spec.plans[plan].limits) for plan in spec.plans
        },
        default_plan=spec.default_plan,
        replicas=max(1, spec.replicas),
        name=name,
        trusted_proxies=tuple(spec.trusted_proxies),
        forwarded=spec.forwarded,
        proxy_protocol=spec.proxy_protocol,
        edge=replace(
            Edge(),
            max_body=spec.max_body,
            tunnel_lifetime=spec.tunnel_lifetime,
            tunnel_bytes=spec.tunnel_bytes,
        ),
        upstreams=base,
        services={service: upstreams(table, base) for service, table in tables.items()},
        zone=spec.zone or zone,
        drain=spec.drain,
        access_log=spec.access_log,
        filters=_filters(spec.filters),
        auth={
            one: table.model_dump(mode="json", exclude_defaults=True)
            for one, table in spec.auth.items()
        },
    )


def _route(spec: RouteSpec, gateway: GatewaySpec) -> Route:
    by = spec.rewrite_regex
    codings = gateway.compress if spec.compress is None else spec.compress
    return Route(
        service=spec.service or "",
        redirect=None if spec.redirect is None else _redirect(spec.redirect),
        respond=None if spec.respond is None else Respond(**spec.respond.model_dump()),
        path=spec.path,
        exact=spec.path_type == "exact",
        regex=spec.path_type == "regex",
        host=spec.host or "",
        methods=tuple(method.upper() for method in spec.methods),
        headers=dict(spec.headers),
        query=dict(spec.query),
        cookies=dict(spec.cookies),
        version=Constraint.parse(spec.version),
        rewrite=spec.rewrite,
        rewrite_regex=None if by is None else RegexRewrite(pattern=by.pattern, to=by.to),
        host_rewrite=spec.host_rewrite or "",
        request_headers=_edits(spec.request_headers),
        response_headers=_edits(spec.response_headers),
        timeouts=timeouts(spec.timeouts, spec.timeout),
        retry=retry(spec.retry),
        hedge=hedge(spec.hedge),
        fallback=fallback(spec.fallback),
        importance=Importance(spec.priority),
        max_requests=spec.max_requests,
        stream=spec.stream,
        auth=spec.auth or "",
        scopes=tuple(spec.scopes),
        limits=tuple(_limit(one) for one in ([spec.limit] if spec.limit else spec.limits)),
        plans=spec.plans,
        split=None if spec.split is None else route_traffic.split(spec.split),
        mirror=None if spec.mirror is None else route_traffic.mirror(spec.mirror),
        filters=_filters(spec.filters),
        faults=None if spec.faults is None else route_traffic.faults(spec.faults),
        max_upgrades=spec.max_upgrades,
        tunnel_lifetime=spec.tunnel_lifetime,
        tunnel_bytes=spec.tunnel_bytes,
        cors=_cors(spec.cors or gateway.cors),
        compression=Compression(codings=tuple(codings)) if codings else None,
    )


def _cors(spec: CorsSpec | None) -> Cors | None:
    if spec is None:
        return None
    return Cors(
        origins=tuple(spec.origins),
        methods=tuple(method.upper() for method in spec.methods),
        headers=tuple(spec.headers),
        expose=tuple(spec.expose),
        credentials=spec.credentials,
        max_age=spec.max_age,
    )


def _filters(wanted: FilterList) -> tuple[FilterConfig, ...]:
    return tuple(
        FilterConfig(use=one)
        if isinstance(one, str)
        else FilterConfig(use=one.use, phase=Phase(one.phase), options=one.options)
        for one in wanted
    )


def _redirect(spec: RedirectSpec) -> Redirect:
    return Redirect(
        scheme=spec.scheme or "",
        host=spec.host or "",
        port=spec.port,
        path=spec.path,
        status=spec.status,
    )


def _edits(spec: HeaderEditsSpec) -> Edits:
    return Edits(remove=tuple(spec.remove), set=dict(spec.set), add=dict(spec.add))


def _limit(spec: LimitSpec) -> Limit:
    counted = "gcra" if spec.requests is None else "sliding-window"
    return Limit(
        rate=spec.rate or 0.0,
        burst=spec.burst,
        by=LimitBy(spec.by),
        algorithm=Algorithm(spec.algorithm or counted),
        requests=spec.requests or 0,
        window=spec.window or 0.0,
        name=spec.name,
        shared=spec.shared,
        when_away=WhenAway(spec.when_away),
    )


# What a key means that is neither a plain value nor a table over one that is there already.
_MADE: Mapping[str, Any] = {
    "adaptive": Adaptive(),
    "balancing": Balancing,
    "expect": tuple,
    "health": HealthCheck(),
    "slow_start": SlowStart(),
    "sticky": Sticky(),
}


def upstreams(spec: UpstreamsSpec, base: Upstreams) -> Upstreams:
    """What a table says over `base`. Spec and configuration name the same things the same, so a
    new key needs a field in each, and nothing here. Raises `Misconfigured`."""
    told: Upstreams = _over(base, spec)
    return told


def _over(base: Any, part: Part) -> Any:
    """`base` with what `part` names, and nothing else, replaced."""
    given: dict[str, Any] = {}
    for name in part.model_fields_set:
        value, current, made = getattr(part, name), getattr(base, name), _MADE.get(name)
        if isinstance(value, Part):
            given[name] = _over(made if current is None else current, value)
        else:
            given[name] = made(value) if callable(made) and value is not None else value
    return replace(base, **given)
