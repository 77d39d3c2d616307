"""Asking a service as those that call it do: by the registry, and not through a gateway."""

from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Self

from seawall.load.probing import WITHIN
from seawall.registry.connect import open_registry
from seawall.registry.watcher import Watcher
from seawall.service.calls import ClientConfig
from seawall.service.client import Client


class AsCaller:
    """`GET path` of a service, by a client of its own with what every client does: it chooses
    among the instances that are registered, and asks another where a request was not sent."""

    def __init__(self, registry_url: str, service: str, path: str) -> None:
        self._registry_url = registry_url
        self._path = path
        self._client = Client(service, config=ClientConfig(timeout=WITHIN))
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        registry = await self._open.enter_async_context(aclosing(open_registry(self._registry_url)))
        self._client.open(await self._open.enter_async_context(Watcher(registry)))
        self._open.callback(self._client.close)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    async def __call__(self, number: int) -> int:
        """The status of an answer. Raises `SeawallError` if there was none."""
        del number
        return (await self._client.get(self._path)).status
