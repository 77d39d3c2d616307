"""Services in one process, on real sockets, with registry and messages in memory: for tests.

async with Platform() as system:
    await system.start(orders, inventory)
    placed = await system.client("orders").post("/orders", {"sku": "tea"})
    await system.settle()
    assert system.published("order.placed")
"""

import asyncio
import itertools
import shutil
import socket
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import uvicorn

from seawall.clock import SYSTEM
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured
from seawall.messaging.base import DeadLetter, Message, Receipt, Subscription, Transport
from seawall.messaging.connect import open_transport
from seawall.registry.connect import open_registry
from seawall.registry.watcher import Watcher
from seawall.service import publishing
from seawall.service.client import Client
from seawall.service.events import topic_of
from seawall.service.server import Server
from seawall.service.service import Service
from seawall.service.settings import Settings
from seawall.topology import Address

_SERIAL = itertools.count(1)

# Longer than any chain of events in a test; a chain that does not end is a defect of its own.
_SETTLE_WITHIN = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Published:
    """A message as a group that sees everything got it."""

    topic: str
    message: Message

    @property
    def data(self) -> Any:
        return msgspec.json.decode(self.message.body)


class Platform:
    """A system of services that lives in its block.

    `registry` and `messages` are URLs; without them each platform has its own, in memory. Each
    service gets a SQLite file in a folder that goes with the platform, unless `databases` names
    a URL for it.
    """

    def __init__(
        self,
        *,
        registry: str | None = None,
        messages: str | None = None,
        databases: dict[str, str] | None = None,
        drain: float = 5.0,
        operator_token: str | None = None,
    ) -> None:
        name = f"platform-{next(_SERIAL)}"
        self.registry_url = registry or f"memory://{name}"
        self.messages_url = messages or f"memory://{name}"
        self._databases = databases or {}
        self._drain = drain
        self._operator_token = operator_token
        self._stack = AsyncExitStack()
        self._tasks = Tasks()
        self._servers: dict[str, _Server] = {}
        self._clients: dict[str, Client] = {}
        self._folder = ""
        self._watcher: Watcher | None = None
        self._transport: Transport | None = None

    async def __aenter__(self) -> Self:
        self._folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="seawall-")
        self._stack.push_async_callback(asyncio.to_thread, shutil.rmtree, self._folder, True)
        await self._stack.enter_async_context(self._tasks)
        registry = open_registry(self.registry_url)
        self._stack.push_async_callback(registry.aclose)
        self._watcher = await self._stack.enter_async_context(Watcher(registry))
        self._transport = open_transport(self.messages_url)
        await self._transport.open()
        self._stack.push_async_callback(self._transport.aclose)
        return self

    async def __aexit__(self, *error: Any) -> None:
        for name in reversed(tuple(self._servers)):
            await self.stop(name)
        for client in self._clients.values():
            client.close()
        await self._stack.__aexit__(*error)

    # services

    async def start(self, *services: Service) -> None:
        """Start services; return when each is registered."""
        for service in services:
            settings = Settings(
                registry_url=self.registry_url,
                messages_url=self.messages_url,
                database_url=self._database_url(service.name),
                instance_id=f"{service.name}-1",
                drain=self._drain,
                propagation=0.0,
                operator_token=self._operator_token,
            )
            await self._start(service, settings)

    def _database_url(self, name: str) -> str:
        given = self._databases.get(name)
        return given or f"sqlite+aiosqlite:///{Path(self._folder) / name}.db"

    async def _start(self, service: Service, settings: Settings) -> None:
        service.settings = settings
        service.knows_address = True
        server = _Server(service)
        server.task = self._tasks.start(server.run(), name=service.name)
        await server.until_up()
        self._servers[service.name] = server
        await service.listening(server.address)
        async with asyncio.timeout(_SETTLE_WITHIN):
            while not self._registered(service.name):
                await SYSTEM.sleep(0.005)

    def _registered(self, name: str) -> bool:
        assert self._watcher is not None
        return any(instance.service == name for instance in self._watcher.view.instances)

    async def stop(self, name: str) -> None:
        """Drain and stop one service."""
        server = self._servers.pop(name)
        server.service.drain()
        await server.stop()

    def address(self, name: str) -> Address:
        """Where a started service listens."""
        return self._servers[name].address

    def url(self, name: str) -> str:
        return f"http://{self.address(name)}"

    def client(self, name: str, *, version: str = "*") -> Client:
        """A client of a service, as another service would have it."""
        if name not in self._clients:
            client = Client(name, version=version)
            client.open(self._watcher)
            self._clients[name] = client
        return self._clients[name]

    # messages

    @property
    def transport(self) -> Transport:
        if self._transport is None:
            raise Misconfigured("the platform is not open", fix="async with Platform() as system:")
        return self._transport

    async def publish(self, event: object, data: object = None, *, key: str | None = None) -> str:
        """Publish an event, as a service would. Returns its message's id."""
        topic = topic_of(event)
        value = data if isinstance(event, str) else event
        message = publishing.message("test", topic, value, key=key)
        return await self._put(topic, message)

    async def send(self, queue: str, job: object, *, reply_to: str | None = None) -> str:
        """Put a job into a queue. Returns its message's id."""
        return await self._put(queue, publishing.message("test", queue, job, reply_to=reply_to))

    async def _put(self, topic: str, message: Message) -> str:
        receipts: Sequence[Receipt] = await self.transport.publish(topic, [message])
        if receipts[0].error is not None:
            raise receipts[0].error
        return message.id

    async def settle(self) -> None:
        """Return when no outbox and no subscription of a started service has anything to do.

        Delayed messages are not waited for.
        """
        async with asyncio.timeout(_SETTLE_WITHIN):
            # Twice: what goes from queue to outbox between two questions is in neither.
            while not (await self._quiet() and await self._quiet()):
                await SYSTEM.sleep(0.005)

    async def _quiet(self) -> bool:
        for server in self._servers.values():
            if not await server.service.settled():
                return False
        for subscription in self.subscriptions():
            lag = await self.transport.lag(subscription)
            if lag.ready or lag.in_flight:
                return False
        return True

    def subscriptions(self) -> list[Subscription]:
        """Those of all started services."""
        return [
            subscription
            for server in self._servers.values()
            for subscription in server.service.subscriptions
        ]

    async def published(self, event: object) -> list[Published]:
        """Everything the topic still holds that was published to it, oldest first."""
        topic = topic_of(event)
        witness = Subscription(topic, f"witness-{next(_SERIAL)}")
        await self.transport.provision([witness])
        found: list[Published] = []
        while taken := await self.transport.fetch(witness, 100, wait=0.0, lease=60.0):
            found += [Published(topic, delivery.message) for delivery in taken]
            await self.transport.ack(taken)
        return found

    async def dead_letters(self) -> list[DeadLetter]:
        """The dead letters of all started services."""
        found: list[DeadLetter] = []
        for subscription in self.subscriptions():
            found += await self.transport.dead_letters(subscription)
        return found


class _Server:
    """One service on a free port of this process."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.task: asyncio.Task[None] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        host, port = self._listener.getsockname()[:2]
        self.address = Address(host, port)
        self._server = Server(
            uvicorn.Config(service, log_config=None, access_log=False, http="httptools")
        )

    async def run(self) -> None:
        try:
            await self._server.serve(sockets=[self._listener])
        except SystemExit:
            failure = self.service.failure or Misconfigured(f"{self.service.name} did not start")
            raise failure from None
        finally:
            self._server.up.set()
            self._listener.close()

    async def until_up(self) -> None:
        await self._server.up.wait()
        if self.task is not None and self.task.done():
            await self.task

    async def stop(self) -> None:
        self._server.leave(5.0, linger=0.0)
        assert self.task is not None
        await self.task
