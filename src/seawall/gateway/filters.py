"""What is asked about a request between its route and its service: one list, in this order.

1. authentication and authorization: who is it, and may they do this?
2. quotas: how much of it? After authentication, since they may count by identity.

A filter is a callable: it returns None to let the request pass, or the answer to give instead.
It must not wait: what it needs to know is pushed to it.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from seawall.errors import Misconfigured
from seawall.gateway.answers import Answer
from seawall.gateway.auth import Authenticate, Provider
from seawall.gateway.config import Route
from seawall.gateway.quota import Quota

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

Filter = Callable[["Exchange", float], Answer | None]


def filters(
    route: Route, providers: Mapping[str, Provider], wall: Callable[[], float]
) -> tuple[Filter, ...]:
    """The filters of a route. Raises `Misconfigured` where it names an unknown provider."""
    chain: list[Filter] = []
    if route.auth:
        provider = providers.get(route.auth)
        if provider is None:
            raise Misconfigured(f"route {route.label}: no authentication is called {route.auth!r}")
        chain.append(Authenticate(provider, route.scopes, route.keep_token, wall))
    chain += [Quota(limit, route.label) for limit in route.limits]
    return tuple(chain)
