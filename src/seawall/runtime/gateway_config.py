"""The gateway's part of the project's spec, in the gateway's own words. Pure."""

from dataclasses import replace

from seawall.gateway.actions import Edits, Redirect, RegexRewrite, Respond
from seawall.gateway.config import Edge, GatewayConfig, Route, Timeouts
from seawall.gateway.limits import Algorithm, Limit, LimitBy
from seawall.resilience.sharing import WhenAway
from seawall.spec.gateway import (
    GatewaySpec,
    HeaderEditsSpec,
    LimitSpec,
    RedirectSpec,
    RouteSpec,
)
from seawall.topology import Constraint


def gateway_config(spec: GatewaySpec, name: str = "gateway") -> GatewayConfig:
    """What the spec says, in the gateway's own words. Raises `Misconfigured`."""
    return GatewayConfig(
        routes=tuple(_route(route) for route in spec.routes),
        plans={
            plan: tuple(_limit(limit) for limit in spec.plans[plan].limits) for plan in spec.plans
        },
        default_plan=spec.default_plan,
        replicas=max(1, spec.replicas),
        name=name,
        trusted_proxies=tuple(spec.trusted_proxies),
        edge=replace(Edge(), max_body=spec.max_body),
        drain=spec.drain,
        access_log="-",
    )


def _route(spec: RouteSpec) -> Route:
    by = spec.rewrite_regex
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
        timeouts=Timeouts(total=spec.timeout),
        stream=spec.stream,
        auth=spec.auth or "",
        scopes=tuple(spec.scopes),
        limits=tuple(_limit(one) for one in ([spec.limit] if spec.limit else spec.limits)),
        plans=spec.plans,
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
