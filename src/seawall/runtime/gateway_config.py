"""The gateway's part of the project's spec, in the gateway's own words. Pure."""

from dataclasses import replace

from seawall.gateway.config import Edge, GatewayConfig, Limit, LimitBy, Route, Timeouts
from seawall.spec.gateway import GatewaySpec, LimitSpec, RouteSpec
from seawall.topology import Constraint


def gateway_config(spec: GatewaySpec, name: str = "gateway") -> GatewayConfig:
    """What the spec says, in the gateway's own words. Raises `Misconfigured`."""
    return GatewayConfig(
        routes=tuple(_route(route) for route in spec.routes),
        name=name,
        trusted_proxies=tuple(spec.trusted_proxies),
        edge=replace(Edge(), max_body=spec.max_body),
        drain=spec.drain,
        access_log="-",
    )


def _route(spec: RouteSpec) -> Route:
    limit = spec.limit
    return Route(
        service=spec.service,
        path=spec.path,
        exact=spec.path_type == "exact",
        host=spec.host or "",
        methods=tuple(method.upper() for method in spec.methods),
        headers=dict(spec.headers),
        version=Constraint.parse(spec.version),
        rewrite=spec.rewrite,
        timeouts=Timeouts(total=spec.timeout),
        stream=spec.stream,
        auth=spec.auth or "",
        scopes=tuple(spec.scopes),
        limits=() if limit is None else (_limit(limit),),
    )


def _limit(spec: LimitSpec) -> Limit:
    return Limit(rate=spec.rate, burst=spec.burst, by=LimitBy(spec.by))
