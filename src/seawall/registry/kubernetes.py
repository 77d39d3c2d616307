"""The cluster itself as the registry: who runs is read from its EndpointSlices.

Probes and the kubelet decide who is ready there, so services have nothing to tell, and those that
know nothing of Seawall are seen as well. Only the reading side of `Registry` does anything.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.resources.discovery_v1 import EndpointSlice

from seawall.errors import Misconfigured, Unavailable
from seawall.registry.base import DEFAULT_TTL
from seawall.registry.endpoints import Slices, instances
from seawall.topology import Instance

# An API server answers a list of one namespace from memory, within milliseconds.
PATIENCE = 2.0  # seconds

# After so long without news everything is read again: a connection that is dead looks like one
# that has nothing to say. Five hundred processes then are eight lists a second.
QUIET = 60.0  # seconds

# The API server ends a watch by itself after this, and the next begins where it was.
_WATCH = 300  # seconds

_GONE = 410  # that resource version is forgotten: read everything again

_Listed = tuple[dict[str, tuple[Instance, ...]], str]


class KubernetesRegistry:
    """`kubernetes://NAMESPACE`; without one, that of this pod, or of the context of kubeconfig.
    `?project=NAME` leaves out Services of other projects. See `seawall.registry.base.Registry`;
    `renew` and `deregister` do nothing, since the cluster knows by its probes."""

    def __init__(
        self,
        url: str,
        *,
        project: str = "",
        quiet: float = QUIET,
        client: Callable[[httpx2.Timeout], AsyncClient] | None = None,
    ) -> None:
        self._namespace = urlsplit(url).netloc or None
        self._labels: Any = {"app.kubernetes.io/part-of": project} if project else None
        self._quiet = quiet
        self._make = client or _from_surroundings
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._streaming: Slices | None = None

    async def renew(self, instance: Instance, ttl: float = DEFAULT_TTL) -> bool:
        return True

    async def deregister(self, instance: Instance) -> bool:
        return False

    async def read(self) -> Sequence[Instance]:
        """Everybody now. While a stream of changes stands, what it has led to is that."""
        if self._streaming is not None:
            return tuple(self._streaming)
        listed, _ = await self._list()
        slices = Slices()
        slices.replace(listed)
        return tuple(slices)

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[Instance]]:
        slices = Slices()
        listed, version = await self._list()
        slices.replace(listed)
        self._streaming = slices
        try:
            async with aclosing(self._follow(slices, version)) as stream:
                yield stream
        finally:
            if self._streaming is slices:
                self._streaming = None

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _follow(self, slices: Slices, version: str) -> AsyncGenerator[Instance, None]:
        try:
            while True:
                async with aclosing(self._watch(slices, version)) as changes:
                    async for change in changes:
                        yield change
                listed, version = await self._list()
                for change in slices.replace(listed):
                    yield change
        finally:
            # What was followed until here is no truth any more.
            if self._streaming is slices:
                self._streaming = None

    async def _watch(self, slices: Slices, version: str) -> AsyncGenerator[Instance, None]:
        """Changes from there on; ends where everything is to be read again."""
        client = await self._connected()
        events: Any = client.watch(
            EndpointSlice,
            namespace=self._namespace,
            labels=self._labels,
            resource_version=version,
            server_timeout=_WATCH,
        )
        async with aclosing(events):
            while True:
                try:
                    async with asyncio.timeout(self._quiet):  # outside: it is no failure
                        with _translated():
                            kind, changed = await anext(events)
                except (_Forgotten, TimeoutError):
                    return
                if kind == "BOOKMARK":  # only where it stands
                    continue
                held = () if kind == "DELETED" else instances(changed)
                for change in slices.put(_name(changed), held):
                    yield change

    async def _list(self) -> _Listed:
        client = await self._connected()
        with _translated():
            found = client.list(EndpointSlice, namespace=self._namespace, labels=self._labels)
            listed = {_name(each): instances(each) async for each in found}
            return listed, found.resourceVersion

    async def _connected(self) -> AsyncClient:
        """The client; its certificates and tokens are files, so another thread reads them."""
        async with self._connecting:
            if self._client is None:
                timeout = httpx2.Timeout(PATIENCE)
                self._client = await asyncio.to_thread(self._make, timeout)
        return self._client

    def __repr__(self) -> str:
        return f"<KubernetesRegistry {self._namespace or 'own namespace'}>"


def _name(of: EndpointSlice) -> str:
    return (of.metadata.name if of.metadata is not None else None) or ""


def _from_surroundings(timeout: httpx2.Timeout) -> AsyncClient:
    try:
        return AsyncClient(timeout=timeout)
    except (ConfigError, OSError, KeyError) as exc:
        raise Misconfigured(
            f"no cluster is known here: {exc}",
            fix="run it in a pod with a token, or name a kubeconfig in KUBECONFIG",
        ) from exc


class _Forgotten(Exception):
    """The API server does not know any more what came after that version."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx2.HTTPStatusError as exc:
        code = exc.status.code if isinstance(exc, ApiError) else exc.response.status_code
        if code == _GONE:
            raise _Forgotten from exc
        raise Unavailable(f"the API server: {_told(code, str(exc))}") from exc
    except (httpx2.HTTPError, msgspec.MsgspecError, OSError) as exc:
        raise Unavailable(f"the API server: {str(exc) or type(exc).__name__}") from exc
    except StopAsyncIteration as exc:
        raise Unavailable("the API server ended the watch") from exc


def _told(code: int | None, message: str) -> str:
    if code in (401, 403):
        return f"{message} (a Role of `seawall deploy kubernetes` allows it)"
    return message
