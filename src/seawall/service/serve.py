"""Serve a service: uvicorn's protocol, our signals, our order of leaving.

uvicorn closes its listener first when it is told to stop, and its callers learn of it by failed
connections. Here SIGTERM begins with being seen to leave, while the listener stays open and
answers, with `Connection: close`, until everybody has heard.

Imports of this module start nothing, so that a parent process may load it and fork: `serve`
makes loop, threads and connections after the fork.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import uvicorn

from seawall.clock import SYSTEM
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured
from seawall.facts import Observer
from seawall.identity.credentials import Credentials
from seawall.service.observing import told
from seawall.service.server import Server
from seawall.service.service import Service
from seawall.service.settings import Settings
from seawall.telemetry import logs
from seawall.topology import Address

log = logging.getLogger("seawall.service")

# A gateway keeps idle connections a minute, and must be the one to close them: a request that
# is written while we close has an unknown outcome.
KEEP_ALIVE = 75  # seconds

# Connections the kernel completes while the loop is busy.
BACKLOG = 2048

# What closing the parts may take beyond the drain.
_CLOSING = 10.0  # seconds


def load(target: str) -> Any:
    """The application that `module:attribute` names; `module` alone means its only service.

    Raises `Misconfigured` if there is none.
    """
    module_name, _, attribute = target.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name and not f"{module_name}.".startswith(f"{exc.name}."):
            raise
        raise Misconfigured(f"there is no module {module_name}", fix="MODULE:ATTRIBUTE") from exc
    if not attribute:
        services = [value for value in vars(module).values() if isinstance(value, Service)]
        if len(set(map(id, services))) != 1:
            raise Misconfigured(f"{module_name} has {len(services)} services", fix="name one")
        return services[0]
    found: Any = module
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        raise Misconfigured(f"{module_name} has no application {attribute}")
    return found


Identity = Callable[[], Awaitable[bool]]
"""Waits until the environment says which replica this is; False if it will be none."""


async def _known() -> bool:
    return True


def serve(target: str, identity: Identity = _known) -> int:
    """Serve the application `module:attribute` until a signal ends it; return the exit status.

    It listens on the inherited socket `SEAWALL_LISTEN_FD`, else on `HOST`:`PORT`; and on
    `SEAWALL_PROBE_FD`, if it is there, so that this process can be asked where others answer on
    the first one too. SIGTERM and SIGINT drain it; a second signal stops it at once.

    What needs no identity is made before `identity` is waited for.
    """
    app = load(target)
    import uvloop  # here: absent on Windows, where asyncio's own loop serves

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(_serve(app, target, identity))
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads what we say; Python would end with 120 for it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status


async def _serve(app: Any, target: str, identity: Identity) -> int:
    server = server_of(app)
    if not await identity():
        return 0
    settings = Settings.from_environment()
    name, version = _who(app, target)
    instance_id = settings.instance_of(name)
    logs.configure(logs.Resource(name, version, instance_id), settings.log_level)
    if isinstance(app, Service):
        logging.getLogger("uvicorn.error").setLevel("CRITICAL")  # a service says it itself, once
    try:
        listeners = _listen(settings)
        credentials = None if settings.tls is None else Credentials(settings.tls)
    except Misconfigured as exc:
        log.error("%s", exc)
        return 2
    return await _Serving(app, server, settings, listeners, credentials).run()


def server_of(app: Any) -> Server:
    """What serves it, with all that can be made before it is known where."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        backlog=BACKLOG,
    )
    server = Server(config)
    config.load()
    return server


def _who(app: Any, target: str) -> tuple[str, str]:
    if isinstance(app, Service):
        return app.name, app.version
    return target.partition(":")[0].rpartition(".")[2], "0.0.0"


def _listen(settings: Settings) -> list[socket.socket]:
    """Where customers ask, first; then where only this process is asked, if anywhere."""
    listeners = [_inherited("SEAWALL_LISTEN_FD", settings.listen_fd) or _opened(settings)]
    own = _inherited("SEAWALL_PROBE_FD", settings.probe_fd)
    return listeners if own is None else [*listeners, own]


def _observer(app: Any) -> Observer:
    return app.observer if isinstance(app, Service) else told


def _inherited(variable: str, fd: int | None) -> socket.socket | None:
    if fd is None:
        return None
    try:
        inherited = socket.socket(fileno=fd)
    except OSError as exc:
        raise Misconfigured(f"{variable}={fd}: {exc}") from exc
    inherited.setblocking(False)
    return inherited


def _opened(settings: Settings) -> socket.socket:
    host, port = settings.host, 8000 if settings.port is None else settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise Misconfigured(
            f"cannot listen on {host}:{port}: {exc.strerror}",
            fix=f"stop what uses it (ss -ltnp 'sport = :{port}') or set PORT",
        ) from exc
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _settle() -> None:
    """What is here now stays: keep the garbage collector from going through it again and again,
    and let it look at requests' leftovers less often than after every 700 objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


class _Serving:
    """One run of one application; the first of its sockets is where others find it."""

    def __init__(
        self,
        app: Any,
        server: Server,
        settings: Settings,
        listeners: list[socket.socket],
        credentials: Credentials | None,
    ) -> None:
        self._app = app
        self._server = server
        self._credentials = credentials
        self._settings = settings
        self._listeners = listeners
        self._signals = 0
        self._signalled = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal)
        credentials = self._credentials
        if isinstance(self._app, Service):
            self._app.knows_address = True
            self._app.credentials = credentials
        async with Tasks() as tasks:
            if credentials is not None:
                self._server.admit(credentials)
                credentials.observe(_observer(self._app))
                tasks.start(credentials.follow(), name="certificate")
            serving = tasks.start(self._serve(), name="serve")
            await self._until_up(serving)
            if not serving.done():
                stopping = tasks.start(self._stop_on_signal(), name="stop on signal")
                await asyncio.wait([serving])
                stopping.cancel()
            status: int = serving.result()
            return status

    async def _serve(self) -> int:
        try:
            await self._server.serve(sockets=self._listeners)
        except SystemExit:  # uvicorn's way to say that the start failed
            return 3
        return 0 if self._signals < 2 else 1

    async def _until_up(self, serving: asyncio.Task[int]) -> None:
        async with Tasks() as tasks:
            up = tasks.start(self._server.up.wait())
            signalled = tasks.start(self._signalled.wait())
            await asyncio.wait([serving, up, signalled], return_when=asyncio.FIRST_COMPLETED)
        if self._server.up.is_set():
            host, port = self._listeners[0].getsockname()[:2]
            scheme = "http" if self._server.config.ssl is None else "https"
            log.info("listening on %s://%s", scheme, Address(host, port))
            if isinstance(self._app, Service):
                await self._app.listening(Address(host, port))
            _settle()

    async def _stop_on_signal(self) -> None:
        await self._signalled.wait()
        settings = self._settings
        began = SYSTEM.now()
        if isinstance(self._app, Service) and self._signals < 2:
            self._app.drain()
            window = min(settings.propagation, settings.drain)
            self._signalled.clear()
            await self._or_second_signal(window)
        left = max(0.1, settings.drain - (SYSTEM.now() - began))
        self._server.leave(left, shared=settings.listen_fd is not None)
        await self._or_second_signal(left + _CLOSING)
        self._server.force_exit = True

    async def _or_second_signal(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._signals < 2:
                    self._signalled.clear()
                    await self._signalled.wait()
        except TimeoutError:
            return

    def _signal(self) -> None:
        self._signals += 1
        self._signalled.set()
