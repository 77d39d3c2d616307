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
from importlib import import_module
from typing import Any

import uvicorn

from seawall.clock import SYSTEM
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured
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


def serve(target: str) -> int:
    """Serve the application `module:attribute` until a signal ends it; return the exit status.

    It listens on the inherited socket `SEAWALL_LISTEN_FD`, else on `HOST`:`PORT`. SIGTERM and
    SIGINT drain it; a second signal stops it at once.
    """
    settings = Settings.from_environment()
    app = load(target)
    name, version = _who(app, target)
    instance_id = settings.instance_id or f"{name}-{os.getpid()}"
    logs.configure(logs.Resource(name, version, instance_id), settings.log_level)
    if isinstance(app, Service):
        logging.getLogger("uvicorn.error").setLevel("CRITICAL")  # a service says it itself, once
    try:
        listener = _listen(settings)
    except Misconfigured as exc:
        log.error("%s", exc)
        return 2
    import uvloop  # here: absent on Windows, where asyncio's own loop serves

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Serving(app, settings, listener).run())


def _who(app: Any, target: str) -> tuple[str, str]:
    if isinstance(app, Service):
        return app.name, app.version
    return target.partition(":")[0].rpartition(".")[2], "0.0.0"


def _listen(settings: Settings) -> socket.socket:
    if settings.listen_fd is not None:
        try:
            inherited = socket.socket(fileno=settings.listen_fd)
        except OSError as exc:
            raise Misconfigured(f"SEAWALL_LISTEN_FD={settings.listen_fd}: {exc}") from exc
        inherited.setblocking(False)
        return inherited
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
    """One run of one application on one socket."""

    def __init__(self, app: Any, settings: Settings, listener: socket.socket) -> None:
        self._app = app
        self._settings = settings
        self._listener = listener
        self._signals = 0
        self._signalled = asyncio.Event()
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            backlog=BACKLOG,
        )
        self._server = Server(config)

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal)
        if isinstance(self._app, Service):
            self._app.knows_address = True
        async with Tasks() as tasks:
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
            await self._server.serve(sockets=[self._listener])
        except SystemExit:  # uvicorn's way to say that the start failed
            return 3
        return 0 if self._signals < 2 else 1

    async def _until_up(self, serving: asyncio.Task[int]) -> None:
        async with Tasks() as tasks:
            up = tasks.start(self._server.up.wait())
            signalled = tasks.start(self._signalled.wait())
            await asyncio.wait([serving, up, signalled], return_when=asyncio.FIRST_COMPLETED)
        if self._server.up.is_set():
            host, port = self._listener.getsockname()[:2]
            log.info("listening on http://%s", Address(host, port))
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
