"""The gateway as a process: from the project's spec to a running `Gateway`.

The composition root of the gateway. The supervisor forks it with a listening socket that its
replicas share; in a container it listens by itself. `SEAWALL_ADMIN` says where its admin listener
is: the path of a Unix socket, or `HOST:PORT`.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured
from seawall.gateway.admin import admin
from seawall.gateway.config import GatewayConfig
from seawall.gateway.gateway import Gateway
from seawall.gateway.ledger import Ledger, MemoryLedger
from seawall.identity.credentials import Credentials
from seawall.registry.connect import RESP_SCHEMES, beside, open_registry, split_namespace
from seawall.registry.watcher import Watcher
from seawall.runtime import canary_routes
from seawall.runtime.gateway_auth import KEYS_WITHIN, Providers, keys_read
from seawall.runtime.gateway_config import gateway_config
from seawall.runtime.gateway_reload import Reloader, narrate, on_signals
from seawall.runtime.gateway_spans import gateway_spans, sampled
from seawall.runtime.layout import Layout
from seawall.runtime.sockets import listen
from seawall.spec.gateway import GatewaySpec
from seawall.spec.load import load_spec
from seawall.spec.project import Spec
from seawall.telemetry.logs import Resource, configure
from seawall.topology import Address
from seawall.version import __version__


def run(project: str, profile: str) -> int:
    """Run one gateway of the project until a signal ends it; the exit status."""
    name = os.environ.get("SEAWALL_INSTANCE_ID", "gateway")
    configure(Resource("gateway", __version__, name), stream=sys.stderr)

    def read() -> Spec:
        spec = load_spec(Path(project), profile=profile or None, environ=os.environ)
        return canary_routes.with_trials(spec, canary_routes.read(Layout(spec.root).canaries))

    if sys.platform == "win32":
        return asyncio.run(_serve(read))
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(read))


async def _serve(read: Callable[[], Spec]) -> int:
    spec = read()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_abort, stop, number)
    async with AsyncExitStack() as stack:
        registry = open_registry(spec.registry.url or "memory://seawall")
        stack.push_async_callback(registry.aclose)
        watcher = await stack.enter_async_context(Watcher(registry))
        credentials = await _credentials(stack)
        towards = None if credentials is None else credentials.towards
        providers = Providers(watcher, towards)
        stack.push_async_callback(providers.aclose)
        auth = await providers.drafted(spec)
        await providers.adopt(auth)
        name = os.environ.get("SEAWALL_INSTANCE_ID", "gateway")
        zone = os.environ.get("SEAWALL_ZONE", "")

        def configured(spec: Spec) -> GatewayConfig:
            return sampled(gateway_config(spec.gateway, name, zone), os.environ)

        config = configured(spec)
        ledger = limits_ledger(config, spec)
        if ledger is not None:
            stack.push_async_callback(ledger.aclose)
        gateway = Gateway(
            config,
            watcher,
            providers=auth.providers,
            observer=narrate,
            ledger=ledger,
            spans=await stack.enter_async_context(gateway_spans(os.environ, name)),
            towards=towards,
        )
        reload = Reloader(gateway, providers, read, spec, configured)
        where = admin_place(os.environ.get("SEAWALL_ADMIN", ""))
        if where is not None:
            try:
                await stack.enter_async_context(admin(gateway, where, reload=reload))
            except OSError as exc:
                raise Misconfigured(
                    f"SEAWALL_ADMIN={where}: {exc.strerror or exc}",
                    fix="another HOST:PORT or path, or stop what uses it",
                ) from exc
        # Until then connections wait in the listener's queue, or another replica takes them.
        await keys_read(auth.unread(), KEYS_WITHIN)
        async with gateway.serving(_listener(spec.gateway)):
            # What is here now stays: the garbage collector need not go through it ever again.
            gc.collect()
            gc.freeze()
            _say_ready()
            async with Tasks() as tasks:
                on_signals(loop, gateway, reload, tasks)
                await stop.wait()
    return 0


async def _credentials(stack: AsyncExitStack) -> Credentials | None:
    """What services are called with, kept fresh; None: they are called in plain text."""
    folder = os.environ.get("SEAWALL_TLS")
    if not folder:
        return None
    credentials = await asyncio.to_thread(Credentials, folder, observer=narrate)
    tasks = await stack.enter_async_context(Tasks())
    tasks.start(credentials.follow(), name="certificate")
    return credentials


def limits_ledger(config: GatewayConfig, spec: Spec) -> Ledger | None:
    """Where the gateways of the project divide the limits that they share; None if they share
    none. Raises `Misconfigured`."""
    url = limits_ledger_url(config, spec)
    if url is None:
        return None
    if url.startswith("memory:"):
        return MemoryLedger()
    from seawall.gateway.ledger_valkey import ValkeyLedger

    address, namespace = split_namespace(url)
    return ValkeyLedger(address, namespace=namespace)


def limits_ledger_url(config: GatewayConfig, spec: Spec) -> str | None:
    """Where that ledger is. Raises `Misconfigured` where it is no kind of ledger."""
    if not config.shares_limits:
        return None
    shared = beside(spec.registry.url or "memory://seawall", spec.messages.url)
    url = spec.gateway.limits_url or spec.sessions.url or shared or spec.registry.url or ""
    scheme = url.partition(":")[0]
    if scheme != "memory" and scheme not in RESP_SCHEMES:
        raise Misconfigured(
            f"limits_url: {scheme or url!r} is no kind of ledger",
            fix="redis://HOST:6379/0, valkey://…, rediss://… or unix:///PATH.sock?db=0",
        )
    return url


def _stop_or_abort(stop: asyncio.Event, number: signal.Signals) -> None:
    if stop.is_set():  # asked twice: somebody does not want to wait
        os._exit(128 + number)
    stop.set()


def _listener(spec: GatewaySpec) -> socket.socket:
    """Raises `PortTaken` or `Misconfigured`."""
    inherited = os.environ.get("SEAWALL_LISTEN_FD")
    if inherited is None:
        return listen(spec.host, spec.port)
    listener = socket.socket(fileno=int(inherited))
    listener.setblocking(False)
    return listener


def _say_ready() -> None:
    fd = os.environ.get("SEAWALL_READY_FD")
    if fd is not None:
        os.write(int(fd), b"1")
        os.close(int(fd))


def admin_place(text: str) -> Address | Path | None:
    """Where the admin listener is: a path, `HOST:PORT`, or nowhere. Raises `Misconfigured`."""
    if not text or text.startswith("/"):
        return Path(text) if text else None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise Misconfigured(
            f"SEAWALL_ADMIN: {text!r} is no path", fix="/run/gateway.sock, or HOST:PORT"
        )
    return Address(host.strip("[]"), int(port))
