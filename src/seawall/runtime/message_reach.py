"""Which groups an operator means, and the way to their broker and their registry.

Every question opens its own connection and closes it, so nothing has to be kept alive between
questions that come hours apart.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import Any

from seawall.clock import SYSTEM, Clock
from seawall.errors import Misconfigured, Unavailable
from seawall.messaging.base import Subscription, Transport
from seawall.messaging.connect import open_transport
from seawall.registry.connect import open_registry
from seawall.registry.consuming import consumed
from seawall.registry.pauses import Pauses, open_pauses
from seawall.runtime.fleets import UnknownName


class Reach:
    """Where a project's messages are, and who consumes them."""

    def __init__(
        self, messages_url: str, registry_url: str | None, *, clock: Clock = SYSTEM
    ) -> None:
        self._url = messages_url
        self._registry_url = registry_url
        self.clock = clock

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Transport]:
        if self._url.startswith("memory:"):
            raise Misconfigured(
                "these messages are in the memory of each service's own process",
                fix="name a server: [messages] url = in seawall.toml, or --url",
            )
        # Its library is imported, which takes a moment; and everybody else's question waits.
        transport = await asyncio.to_thread(open_transport, self._url)
        try:
            await transport.open()
            yield transport
        finally:
            await transport.aclose()

    async def _consumed(self) -> dict[Subscription, set[str]]:
        """What running services consume."""
        if self._registry_url is None:
            return {}
        registry = open_registry(self._registry_url)
        try:
            named = consumed(await registry.read())
        finally:
            await registry.aclose()
        return {Subscription(*name): services for name, services in named.items()}

    async def _known(self, transport: Transport) -> dict[Subscription, set[str]]:
        """Every group that runs or that the broker remembers, with the services that consume it."""
        if not transport.caps.lists:
            return await self._consumed()
        try:
            known = await self._consumed()
        except Unavailable:  # the broker knows all that matters
            known = {}
        for subscription in await transport.subscriptions():
            known.setdefault(subscription, set())
        return known

    async def meant(
        self, transport: Transport, topic: str, group: str
    ) -> dict[Subscription, set[str]]:
        """The groups that are named, or all of them. Raises for a name that nobody has."""
        known = await self._known(transport)
        meant = {
            each: services
            for each, services in sorted(known.items(), key=_by_name)
            if topic in ("", each.topic) and group in ("", each.group)
        }
        if meant or (not (topic or group) and known):
            return meant
        if not transport.caps.lists:
            if topic and group:
                return {Subscription(topic, group): set()}
            raise Misconfigured(
                "this broker does not tell its groups, and no running service told its own",
                fix="--topic TOPIC --group GROUP, or --registry URL of a project that runs",
            )
        if topic or group:
            raise _unknown(topic, group, known)
        return {}

    async def one(self, transport: Transport, topic: str, group: str) -> Subscription:
        if not topic:
            raise Misconfigured("which topic?", fix="seawall queues ls")
        meant = list(await self.meant(transport, topic, group))
        if len(meant) > 1:
            groups = ", ".join(each.group for each in meant)
            raise Misconfigured(f"{topic} has several groups: {groups}", fix="name one of them")
        return meant[0]

    @property
    def knows_pauses(self) -> bool:
        return self._registry_url is not None and not self._registry_url.startswith("memory:")

    @asynccontextmanager
    async def pauses(self) -> AsyncIterator[Pauses]:
        if self._registry_url is None or not self.knows_pauses:
            raise Misconfigured(
                "what is paused is kept in the registry, and none is named",
                fix="--registry URL: the one that the services have in SEAWALL_REGISTRY__URL",
            )
        pauses = open_pauses(self._registry_url)
        try:
            yield pauses
        finally:
            await pauses.aclose()


def _by_name(item: tuple[Subscription, object]) -> tuple[str, str]:
    return item[0].topic, item[0].group


def _unknown(topic: str, group: str, known: Mapping[Subscription, object]) -> UnknownName:
    names = {each.topic for each in known} if topic else {each.group for each in known}
    asked = topic or group
    if topic in names and group:
        names, asked = {each.group for each in known if each.topic == topic}, group
    close = get_close_matches(asked, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "seawall queues ls lists what there is"
    return UnknownName(f"nobody consumes {' / '.join(filter(None, (topic, group)))}; {hint}")


def named(values: Mapping[str, Any]) -> tuple[str, str]:
    """Topic and group of a request's body; "" for one that is not named."""
    return str(values.get("topic") or ""), str(values.get("group") or "")


def number(text: str, name: str, most: int) -> int:
    if not text.isdecimal():
        raise Misconfigured(f"{name} is a number, not {text!r}")
    return min(int(text), most)
