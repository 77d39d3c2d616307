"""Pages of documentation as one route instead of six.

Routes are compared with a request one by one, in the order in which they were declared, and the
pages come first. They are asked for seldom, and all other requests would pay for each of them.
"""

from collections.abc import Sequence
from typing import Any

from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound, Route
from starlette.types import Receive, Scope, Send

# In the scope of a request for a page: its route.
_PAGE = "seawall.page"


class Documents(BaseRoute):
    """These routes, whose paths have no parameters."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._paths = tuple(route.path for route in routes)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # What stands before the path is that of a proxy or a mount, which the routes know.
        if scope["path"].endswith(self._paths):
            for route in self.routes:
                match, inner = route.matches(scope)
                if match is not Match.NONE:
                    return match, {**inner, _PAGE: route}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        route: Route = scope[_PAGE]
        await route.handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        for route in self.routes:
            if route.name == name:
                return route.url_path_for(name, **path_params)
        raise NoMatchFound(name, path_params)

    def __repr__(self) -> str:
        return f"<Documents {', '.join(self._paths)}>"


def gather(routes: list[BaseRoute]) -> None:
    """Make one of those that are kept out of the schema and have no parameters."""
    pages = [
        route
        for route in routes
        if isinstance(route, Route) and not route.include_in_schema and "{" not in route.path
    ]
    if pages:
        first = routes.index(pages[0])
        routes[:] = [route for route in routes if route not in pages]
        routes.insert(first, Documents(pages))
