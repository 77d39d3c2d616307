"""Tells a cluster's autoscalers the figures that services declare.

It looks at each service now and then, as the supervisor's autoscaler does, and answers with what it
saw last: an autoscaler that asks never waits for a replica. It decides nothing.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import uvicorn
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.messaging.base import Subscription
from seawall.registry.connect import open_registry
from seawall.registry.watcher import Watcher
from seawall.runtime.asking import At
from seawall.runtime.autoscaler_figures import (
    OF_GATEWAYS,
    Heard,
    Series,
    series,
    wanted_of_replicas,
)
from seawall.runtime.autoscaler_samples import Depths, metrics_at
from seawall.runtime.metrics_known import Known
from seawall.runtime.metrics_questions import Catalog, Desk
from seawall.runtime.metrics_shapes import Value
from seawall.service.server import Server
from seawall.spec.scaling import ScaleSpec
from seawall.telemetry.logs import Resource, configure
from seawall.topology import Address, InstanceState
from seawall.version import __version__

log = logging.getLogger("seawall.metrics_adapter")

_NAME = "metrics-adapter"

# A HorizontalPodAutoscaler asks each 15 seconds and KEDA each 10: what they get is at most half
# of that old.
EVERY = 5.0  # seconds

# Two looks may fail; then a figure is not told any more.
_FRESH_LOOKS = 3

# What is under way when it is told to stop are answers from memory.
_DRAIN = 5.0  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """`scales` are the declared figures by service, `consumes` what each of them subscribes to,
    `gateways` the admin listeners of gateways: a name stands for all its addresses. With
    `certificate` and `key` (files) it speaks TLS."""

    project: str
    registry_url: str
    messages_url: str
    scales: Mapping[str, Sequence[ScaleSpec]]
    consumes: Mapping[str, Sequence[Subscription]] = field(default_factory=dict)
    gateways: Sequence[Address] = ()
    host: str = "127.0.0.1"
    port: int = 0  # 0 = any free one
    certificate: Path | None = None
    key: Path | None = None
    every: float = EVERY  # seconds between two looks at a service


class Adapter:
    """Looks and answers, for as long as its block (`looking`) is open."""

    def __init__(self, config: AdapterConfig, watcher: Watcher, clock: Clock = SYSTEM) -> None:
        self._config = config
        self._watcher = watcher
        self._clock = clock
        self._depths = Depths(config.messages_url)
        stale = _FRESH_LOOKS * config.every
        self._known = {name: Known(scale, stale) for name, scale in config.scales.items()}
        figures = {name: [each.metric for each in all_] for name, all_ in config.scales.items()}
        self._desk = Desk(Catalog(config.project, figures), self._value)

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        async with Tasks() as tasks:
            for name in self._known:
                tasks.start(self._look_on(name), name=f"figures of {name}")
            try:
                yield
            finally:
                await tasks.cancel()
                await self._depths.aclose()

    def _value(self, service: str, metric: str) -> Value | None:
        return self._known[service].value(metric, self._clock.now())

    async def _look_on(self, service: str) -> None:
        while True:
            heard, unheard = await self._look(service)
            now, wall = self._clock.now(), self._clock.wall()
            self._known[service].note(heard, unheard, now, wall)
            await self._clock.sleep(self._config.every)

    async def _look(self, service: str) -> tuple[Heard, frozenset[str]]:
        scale = self._config.scales[service]
        metrics = {each.metric for each in scale}
        ready = {
            each.instance_id: At(each.address)  # certificates are the mesh's in a cluster
            for each in self._watcher.view.instances
            if each.service == service and each.state is InstanceState.READY
        }
        texts, gateways, lags = await asyncio.gather(
            asyncio.gather(*map(metrics_at, ready.values())),
            self._of_gateways() if "requests" in metrics else _nothing(),
            self._depths.of(self._config.consumes.get(service, ()))
            if metrics & {"queue", "age"}
            else _unknown(),
        )
        names = wanted_of_replicas(scale)
        told = {
            name: series(text, names)
            for name, text in zip(ready, texts, strict=True)
            if text is not None
        }
        heard = Heard(
            service=service, ready=len(ready), replicas=told, gateways=gateways, lags=lags
        )
        return heard, frozenset(ready) - set(told)

    async def _of_gateways(self) -> dict[str, Series]:
        found = await asyncio.gather(*map(_addresses, self._config.gateways))
        addresses = sorted({address for each in found for address in each}, key=str)
        texts = await asyncio.gather(*(metrics_at(At(address)) for address in addresses))
        told = zip(addresses, texts, strict=True)
        return {str(at): series(text, OF_GATEWAYS) for at, text in told if text is not None}

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        assert scope["type"] == "http"
        if scope["method"] not in ("GET", "HEAD"):
            status, body = 405, {"message": "figures are only read"}
        else:
            status, body = self._desk.answer(scope["path"], scope["query_string"].decode())
        content = msgspec.json.encode(body)
        length = str(len(content)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send(
            {"type": "http.response.start", "status": status, "headers": headers, "trailers": False}
        )
        sent = b"" if scope["method"] == "HEAD" else content
        await send({"type": "http.response.body", "body": sent, "more_body": False})


async def _addresses(named: Address) -> list[Address]:
    """All that a name stands for; none where it stands for nothing yet."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(named.host, named.port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [Address(str(where[0]), int(where[1])) for *_, where in found]


async def _nothing() -> dict[str, Series]:
    return {}


async def _unknown() -> None:
    return None


def run(config: AdapterConfig) -> int:
    """Look and answer until a signal ends it; the exit status."""
    name = os.environ.get("SEAWALL_INSTANCE_ID", _NAME)
    configure(Resource(_NAME, __version__, name), stream=sys.stderr)
    logging.getLogger("uvicorn.error").setLevel("ERROR")  # what it says at start we say, once
    return asyncio.run(_serve(config))


async def _serve(config: AdapterConfig) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    registry = open_registry(config.registry_url)
    try:
        async with Watcher(registry) as watcher:
            adapter = Adapter(config, watcher)
            async with adapter.looking(), Tasks() as tasks:
                return await _listen(adapter, config, stop, tasks)
    finally:
        await registry.aclose()


async def _listen(
    adapter: Adapter, config: AdapterConfig, stop: asyncio.Event, tasks: Tasks
) -> int:
    server = Server(
        uvicorn.Config(
            adapter,
            host=config.host,
            port=config.port,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            ssl_certfile=config.certificate,
            ssl_keyfile=config.key,
        )
    )
    serving: asyncio.Task[int] = tasks.start(_until_served(server), name="serve")
    waiting = [tasks.start(server.up.wait()), serving]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if server.up.is_set():
        _say(server, config)
        await asyncio.wait([tasks.start(stop.wait()), serving], return_when="FIRST_COMPLETED")
        server.leave(_DRAIN)
    return await serving


async def _until_served(server: Server) -> int:
    try:
        await server.serve()
    except SystemExit:  # uvicorn's way to say that the start failed
        return 3
    return 0


def _say(server: Server, config: AdapterConfig) -> None:
    port = server.servers[0].sockets[0].getsockname()[1]
    scheme = "http" if config.certificate is None else "https"
    where = f"{scheme}://{Address(config.host, port)}"
    log.info("figures of %d services at %s", len(config.scales), where)
