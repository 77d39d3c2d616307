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
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from seawall.errors import Misconfigured, NoInstance, Unavailable
from seawall.gateway.admin import admin
from seawall.gateway.auth import Provider
from seawall.gateway.config import GatewayConfig
from seawall.gateway.gateway import Gateway
from seawall.gateway.ledger import Ledger, MemoryLedger
from seawall.identity.api_keys import ApiKey, ApiKeys
from seawall.identity.keys import Keys, LocalKeys, key_from_secret, keys_from_file
from seawall.identity.remote_keys import MAX_DOCUMENT, Fetch, RemoteKeys
from seawall.identity.tokens import TokenRules, TokenVerifier
from seawall.registry.connect import RESP_SCHEMES, open_registry, split_namespace
from seawall.registry.watcher import Watcher
from seawall.runtime.gateway_config import gateway_config
from seawall.runtime.gateway_spans import gateway_spans, sampled
from seawall.spec.gateway import AuthSpec, GatewaySpec
from seawall.spec.load import load_spec
from seawall.spec.project import Spec
from seawall.topology import Address

# A key set is small and its server near; the reader's own patience ends sooner.
_FETCH_WITHIN = 10.0  # seconds

_API_KEY_HEADER = "x-api-key"

# How long a gateway waits for the keys of issuers before it accepts connections. Their services
# start beside it and take a second; an issuer that stays away must not keep all others away.
_KEYS_WITHIN = 5.0  # seconds


def run(project: str, profile: str) -> int:
    """Run one gateway of the project until a signal ends it; the exit status."""
    spec = load_spec(Path(project), profile=profile or None, environ=os.environ)
    if sys.platform == "win32":
        return asyncio.run(_serve(spec))
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(spec))


async def _serve(spec: Spec) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_abort, stop, number)
    async with AsyncExitStack() as stack:
        registry = open_registry(spec.registry.url or "memory://seawall")
        stack.push_async_callback(registry.aclose)
        watcher = await stack.enter_async_context(Watcher(registry))
        remote: list[RemoteKeys] = []
        providers = {
            name: await _provider(auth, spec, watcher, stack, remote)
            for name, auth in spec.gateway.auth.items()
        }
        name = os.environ.get("SEAWALL_INSTANCE_ID", "gateway")
        zone = os.environ.get("SEAWALL_ZONE", "")
        config = sampled(gateway_config(spec.gateway, name, zone), os.environ)
        ledger = limits_ledger(config, spec)
        if ledger is not None:
            stack.push_async_callback(ledger.aclose)
        gateway = Gateway(
            config,
            watcher,
            providers=providers,
            ledger=ledger,
            spans=await stack.enter_async_context(gateway_spans(os.environ, name)),
        )
        where = admin_place(os.environ.get("SEAWALL_ADMIN", ""))
        if where is not None:
            await stack.enter_async_context(admin(gateway, where))
        # Until then connections wait in the listener's queue, or another replica takes them.
        await keys_read(remote, _KEYS_WITHIN)
        async with gateway.serving(_listener(spec.gateway)):
            # What is here now stays: the garbage collector need not go through it ever again.
            gc.collect()
            gc.freeze()
            _say_ready()
            await stop.wait()
    return 0


def limits_ledger(config: GatewayConfig, spec: Spec) -> Ledger | None:
    """Where the gateways of the project divide the limits that they share; None if they share
    none. Raises `Misconfigured`."""
    if not config.shares_limits:
        return None
    url = spec.gateway.limits_url or spec.sessions.url or spec.registry.url or "memory://seawall"
    scheme = url.partition(":")[0]
    if scheme == "memory":
        return MemoryLedger()
    if scheme not in RESP_SCHEMES:
        raise Misconfigured(
            f"limits_url: {scheme or url!r} is no kind of ledger",
            fix="redis://HOST:6379/0, valkey://…, rediss://… or unix:///PATH.sock?db=0",
        )
    from seawall.gateway.ledger_valkey import ValkeyLedger

    address, namespace = split_namespace(url)
    return ValkeyLedger(address, namespace=namespace)


def _stop_or_abort(stop: asyncio.Event, number: signal.Signals) -> None:
    if stop.is_set():  # asked twice: somebody does not want to wait
        os._exit(128 + number)
    stop.set()


def _listener(spec: GatewaySpec) -> socket.socket | Address:
    inherited = os.environ.get("SEAWALL_LISTEN_FD")
    if inherited is None:
        return Address(spec.host, spec.port)
    listener = socket.socket(fileno=int(inherited))
    listener.setblocking(False)
    return listener


def _say_ready() -> None:
    fd = os.environ.get("SEAWALL_READY_FD")
    if fd is not None:
        os.write(int(fd), b"1")
        os.close(int(fd))


async def keys_read(remote: Sequence[RemoteKeys], within: float) -> bool:
    """Whether each key set was read once; returns as soon as that is so, or after `within`."""
    try:
        async with asyncio.timeout(within):
            for keys in remote:
                await keys.read_once()
    except TimeoutError:
        return False
    return True


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


async def _provider(
    auth: AuthSpec,
    spec: Spec,
    watcher: Watcher,
    stack: AsyncExitStack,
    remote: list[RemoteKeys],
) -> Provider:
    """One way to know who asks; `remote` gets the keys that it will have to read."""
    if auth.kind == "key":
        known = (
            ApiKey(
                sha256=key.sha256,
                subject=key.subject,
                scopes=tuple(key.scopes),
                plan=key.plan or "",
            )
            for key in auth.keys
        )
        return Provider(ApiKeys(known), header=_API_KEY_HEADER)
    rules = TokenRules(
        issuer=auth.issuer,
        audience=auth.audience,
        algorithms=frozenset(auth.algorithms),
        plan_claim=auth.plan_claim,
    )
    keys: Keys
    if auth.secret is not None:
        keys = LocalKeys([key_from_secret(auth.secret)])
    elif "://" in (url := auth.jwks or "") or url.startswith("service:"):
        keys = fetched = await stack.enter_async_context(RemoteKeys(url, _fetcher(watcher)))
        remote.append(fetched)
    else:
        keys = await asyncio.to_thread(keys_from_file, spec.root / url)
    return Provider(TokenVerifier(keys, rules))


def _fetcher(watcher: Watcher) -> Fetch:
    async def fetch(url: str) -> bytes:
        if url.startswith("service:"):
            service, _, path = url.removeprefix("service:").partition("/")
            try:
                address = watcher.resolve(service)[0].address
            except NoInstance as exc:
                raise Unavailable(str(exc)) from exc
            url = f"http://{address}/{path}"
        return await asyncio.to_thread(_get, url)

    return fetch


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_FETCH_WITHIN) as answer:
            return bytes(answer.read(MAX_DOCUMENT + 1))
    except (urllib.error.URLError, ValueError) as exc:
        raise Unavailable(f"{url}: {exc}") from exc
