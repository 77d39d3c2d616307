"""Whom commands about messages ask: the project's supervisor, or the broker itself.

With `--url` no supervisor is needed: the command does what the supervisor would have done. That is
for brokers of a cluster, and for a project that does not run.
"""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qs, urlencode

from seawall.cli.admin import Admin, NotRunning, Query
from seawall.cli.failure import UNREACHABLE, Failure
from seawall.cli.project import project_layout

if TYPE_CHECKING:
    from seawall.runtime.admin import Answerer

T = TypeVar("T")


class Desk(Protocol):
    """Takes questions. Raises `Failure` or `SeawallError`."""

    def get(self, path: str, query: Query = ()) -> dict[str, Any]: ...

    def post(self, path: str, values: Mapping[str, Any]) -> dict[str, Any]: ...

    def work(self, path: str, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]: ...


def add_place(parser: argparse.ArgumentParser) -> None:
    """The options that say where the messages are."""
    place = parser.add_argument_group("where", "the project that runs here, or")
    place.add_argument("--url", metavar="BROKER", help="a broker: redis://…, amqp://…, nats://…")
    place.add_argument(
        "--registry",
        metavar="URL",
        default=os.environ.get("SEAWALL_REGISTRY__URL"),
        help="with --url: the services' registry, which knows what they consume and what is paused",
    )


def desk(options: argparse.Namespace) -> Desk:
    if options.url is None:
        return _Running(Admin(project_layout(options), timeout=None))
    from seawall.runtime.messages import message_routes  # brings the broker's library

    return Direct(message_routes(options.url, options.registry))


class _Running:
    """The supervisor of a project; says what else there is if it does not run."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def get(self, path: str, query: Query = ()) -> dict[str, Any]:
        return self._asked(lambda: self._admin.get(path, query))

    def post(self, path: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return self._asked(lambda: self._admin.post(path, values))

    def work(self, path: str, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        lines = self._admin.work(path, values)
        while line := self._asked(lambda: next(lines, None)):
            yield line

    @staticmethod
    def _asked(question: Callable[[], T]) -> T:
        try:
            return question()
        except NotRunning as gone:
            fix = "seawall up, --project PATH, or --url BROKER for a broker without a supervisor"
            raise Failure(
                gone.message, why=gone.why, fix=fix, status=UNREACHABLE, code=gone.code
            ) from None


class Direct:
    """Answers questions in this process, as a supervisor would."""

    def __init__(self, routes: "Mapping[tuple[str, str], Answerer]") -> None:
        self._routes = routes

    def get(self, path: str, query: Query = ()) -> dict[str, Any]:
        return asyncio.run(self._answer("GET", path, urlencode(query), {}))

    def post(self, path: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return asyncio.run(self._answer("POST", path, "", values))

    async def _answer(
        self, method: str, path: str, query: str, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        answer = await self._ask(method, path, query, values)
        assert not isinstance(answer, AsyncIterator)
        return dict(answer)

    async def _ask(self, method: str, path: str, query: str, values: Mapping[str, Any]) -> Any:
        from seawall.runtime.admin import Question

        return await self._routes[method, path](Question(method, path, parse_qs(query), values))

    def work(self, path: str, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        with asyncio.Runner() as runner:
            lines = runner.run(self._ask("POST", path, "", values))

            async def following() -> dict[str, Any] | None:
                async for line in lines:
                    return dict(line)
                return None

            while (line := runner.run(following())) is not None:
                yield line
