"""Reading the project's spec again in a gateway that runs, and telling what happens to it.

One reload at a time. Everything that can go wrong does so beside what is in use: the spec is read
and compared in a thread, keys of new issuers are waited for, and only then the gateway changes.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import replace

from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured
from seawall.gateway.changes import Changes, Difference, changes
from seawall.gateway.config import GatewayConfig
from seawall.gateway.custom import FilterFailed, FilterSlow
from seawall.gateway.describing import masked
from seawall.gateway.gateway import Gateway, GatewayChanged
from seawall.identity.credentials import CertificateRenewed, CertificateUnusable, PeerRefused
from seawall.runtime.gateway_auth import KEYS_WITHIN, Providers, keys_read
from seawall.spec.project import Spec

log = logging.getLogger("seawall.gateway")


class Reloader:
    """Applies what the spec says now. A call is `seawall.gateway.acting.Reload`."""

    def __init__(
        self,
        gateway: Gateway,
        providers: Providers,
        read: Callable[[], Spec],
        running: Spec,
        configured: Callable[[Spec], GatewayConfig],
    ) -> None:
        self._gateway = gateway
        self._providers = providers
        self._read = read
        self._running = _fixed(running)
        self._configured = configured
        self._one = asyncio.Lock()

    async def __call__(self, dry_run: bool) -> Changes:
        async with self._one:
            return await self._reload(dry_run)

    async def _reload(self, dry_run: bool) -> Changes:
        gateway = self._gateway
        spec = await asyncio.to_thread(self._read)
        config = self._configured(spec)
        told = await asyncio.to_thread(self._told, gateway.config, config, spec)
        draft = await self._providers.drafted(spec)
        try:
            if dry_run:
                gateway.preview(config, draft.providers)
                await draft.aclose()
                return told
            await keys_read(draft.unread(), KEYS_WITHIN)
            gateway.apply(config, draft.providers, told)
        except BaseException:
            await draft.aclose()
            raise
        await self._providers.adopt(draft)
        return told

    def _told(self, running: GatewayConfig, config: GatewayConfig, spec: Spec) -> Changes:
        found = changes(running, config)
        wanted = _fixed(spec)
        also = tuple(
            Difference(path, before, wanted[path])
            for path, before in self._running.items()
            if wanted[path] != before
        )
        return replace(found, needs_restart=found.needs_restart + also)


def _fixed(spec: Spec) -> dict[str, object]:
    """What is decided when the process starts."""
    gateway = spec.gateway
    return {
        "gateway.host": gateway.host,
        "gateway.port": gateway.port,
        "gateway.limits_url": masked(gateway.limits_url or ""),  # URLs hold passwords
        "registry.url": masked(spec.registry.url or ""),
    }


def on_signals(
    loop: asyncio.AbstractEventLoop, gateway: Gateway, reload: Reloader, tasks: Tasks
) -> None:
    """SIGHUP reads the configuration again, SIGUSR1 opens the access log's file anew."""

    async def again() -> None:
        try:
            await reload(False)
        except Misconfigured as wrong:
            log.error("reload refused; revision %s stays: %s", gateway.revision, wrong)

    loop.add_signal_handler(signal.SIGUSR1, gateway.reopen_log)
    loop.add_signal_handler(signal.SIGHUP, lambda: tasks.start(again(), name="reload"))


def narrate(fact: object) -> None:
    """Tell in the log what happens seldom, and an operator wants to know."""
    if isinstance(fact, PeerRefused | CertificateUnusable):
        log.warning("%s", fact)
    elif isinstance(fact, CertificateRenewed):
        log.info("%s", fact)
    elif isinstance(fact, FilterFailed):
        log.error("filter %s: %s: %s", fact.name, fact.kind, fact.detail)
    elif isinstance(fact, FilterSlow):
        said = "filter %s took %.1f ms, and everybody waited; slow calls so far: %d"
        log.warning(said, fact.name, fact.seconds * 1000, fact.times)
    elif isinstance(fact, GatewayChanged):
        told = fact.changes
        log.info(
            "configuration %s -> %s: %d routes added, %d removed, %d changed, %d settings",
            *(told.before, told.after, len(told.added), len(told.removed)),
            *(len(told.changed), len(told.settings)),
        )
        for one in told.needs_restart:
            log.warning("%s needs a restart of the gateway", one.path)
