"""What happens to a request between its route and its service, and to the answer on its way back.

Each route has two lists, made when the configuration is read. A request passes the phases of the
first in this order:

1. CORS: preflights are answered, since they carry no credentials; other answers get its fields.
2. the user's own, `before-auth`.
3. authentication and authorization: who is it, and may they do this?
4. the user's own, `after-auth`.
5. quotas: how much of it? After authentication, since they may count by identity or plan.
6. upgrades: how many connections of the route speak another protocol already?
7. an answer of the route's own: redirect or direct response. Behind it nothing is reached.
8. changes for the service: path, host, then header fields, which see what was changed before.
9. the user's own, `before-service`.

Of the user's own in one phase the gateway's come before the route's, as they are written.

A filter is a callable: it returns None to let the request pass, or the answer to give instead.
It must not wait: what it needs to know is pushed to it.

An answer's head passes the finishers, once, before a byte of it is passed on:

1. what the service says about CORS is taken out.
2. what the route adds, replaces and takes away of the header fields.
3. the user's own.
4. compression, which sees the fields as the client gets them.

A finisher may edit `head.lines`, and give the exchange a `coder` for the body. It does not see
interim answers, answers that the gateway gives itself, and the 101 behind which another protocol
is spoken.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from seawall.errors import Misconfigured
from seawall.gateway.answers import Answer
from seawall.gateway.auth import Authenticate, Provider
from seawall.gateway.coding import Compress
from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.custom import Request, Response, refuse, respond
from seawall.gateway.extension import Made
from seawall.gateway.filter_config import Phase
from seawall.gateway.preflights import AllowOrigins, OneVoice
from seawall.gateway.quota import Counters, PlanQuota, Quota, Rule
from seawall.gateway.reshaping import EditAnswer, EditRequest, Move, Reply, Rewrite, RewriteHost
from seawall.gateway.upgrades import LimitUpgrades
from seawall.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

# What users write filters with; the rest of this module is the gateway's.
__all__ = ["Answer", "Request", "Response", "filters", "finishers", "refuse", "respond"]

Filter = Callable[["Exchange", float], Answer | None]
Finisher = Callable[["Exchange", ResponseHead], None]


def filters(
    route: Route,
    config: GatewayConfig,
    providers: Mapping[str, Provider],
    counters: Counters,
    wall: Callable[[], float],
    custom: Sequence[Made] = (),
) -> tuple[Filter, ...]:
    """The filters of a route. Raises `Misconfigured` where it names an unknown provider."""
    chain: list[Filter] = []
    if route.cors is not None:
        chain.append(AllowOrigins(route.cors, route.methods))
    chain += _custom(custom, Phase.BEFORE_AUTH)
    if route.auth:
        provider = providers.get(route.auth)
        if provider is None:
            raise Misconfigured(f"route {route.label}: no authentication is called {route.auth!r}")
        chain.append(Authenticate(provider, route.scopes, route.keep_token, wall))
    chain += _custom(custom, Phase.AFTER_AUTH)
    quota = _quota(route, config, counters)
    if quota is not None:
        chain.append(quota)
    if route.max_upgrades is not None:
        chain.append(LimitUpgrades(route.max_upgrades))
    chain += _shape(route)
    chain += _custom(custom, Phase.BEFORE_SERVICE)
    return tuple(chain)


def _custom(custom: Sequence[Made], phase: Phase) -> list[Filter]:
    return [one.check for one in custom if one.check is not None and one.config.phase is phase]


def _shape(route: Route) -> list[Filter]:
    if route.redirect is not None:
        return [Move(route, route.redirect, route.response_headers)]
    if route.respond is not None:
        return [Reply(route.respond, route.response_headers)]
    chain: list[Filter] = []
    if route.rewrite is not None or route.rewrite_regex is not None:
        chain.append(Rewrite(route, route.rewrite, route.rewrite_regex))
    if route.host_rewrite:
        chain.append(RewriteHost(route.host_rewrite))
    if route.request_headers:
        chain.append(EditRequest(route.request_headers))
    return chain


def finishers(route: Route, custom: Sequence[Made] = ()) -> tuple[Finisher, ...]:
    """What is done to the answers of a route's service."""
    chain: list[Finisher] = []
    if route.cors is not None:
        chain.append(OneVoice())
    if route.response_headers:
        chain.append(EditAnswer(route.response_headers))
    chain += [one.on_answer for one in custom if one.on_answer is not None]
    if route.compression is not None and not route.stream:
        chain.append(Compress(route.compression))
    return tuple(chain)


def finished(exchange: "Exchange", chain: tuple[Finisher, ...], head: ResponseHead) -> bool:
    """Whether the answer is passed on; if a finisher failed, the client has got another."""
    for finish in chain:
        finish(exchange, head)
        if exchange.over:
            return False
    return True


def _quota(route: Route, config: GatewayConfig, counters: Counters) -> Quota | PlanQuota | None:
    where = counters.place(route.label) if route.limits else ""
    own = tuple(counters.rule(limit, where, limit.label) for limit in route.limits)
    if not route.plans:
        return Quota(own) if own else None
    plans: dict[str, Quota | None] = {}
    for name in config.plans:
        rules = own + _plan_rules(name, config, counters)
        plans[name] = Quota(rules) if rules else None
    return PlanQuota(plans, config.default_plan)


def _plan_rules(name: str, config: GatewayConfig, counters: Counters) -> tuple[Rule, ...]:
    return tuple(
        counters.rule(limit, f"plan {name}", f"{name}-{limit.label}")
        for limit in config.plans[name]
    )
