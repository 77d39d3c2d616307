"""What the admin API offers about queues: how far groups are behind, peek, pause, resume."""

import asyncio
import getpass
from collections.abc import Mapping

from seawall.errors import Misconfigured, Unavailable
from seawall.messaging.base import Lag, Subscription, Transport
from seawall.registry.pauses import Pause
from seawall.runtime.admin import Answer, Answerer, Question
from seawall.runtime.message_reach import Reach, named, number
from seawall.runtime.message_rows import pause_row, queue_row, rates, waiting_row

# Queues that are looked at side by side; a broker answers each in some milliseconds.
SIDE_BY_SIDE = 8

MOST_PEEKED = 100
MOST_SAMPLED = 30.0  # seconds between two samples


class Queues:
    """Answers questions about queues, and pauses them."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def routes(self) -> Mapping[tuple[str, str], Answerer]:
        return {
            ("GET", "/v1/queues"): self.list_queues,
            ("GET", "/v1/queues/peek"): self.peek,
            ("POST", "/v1/queues/pause"): self.pause,
            ("POST", "/v1/queues/resume"): self.resume,
        }

    async def list_queues(self, question: Question) -> Answer:
        """How far each group is behind; with rates if `over` says for how long to look."""
        over = _seconds(question.one("over", "1"))
        async with self._reach.broker() as transport:
            meant = await self._reach.meant(transport, question.one("topic"), question.one("group"))
            first, began = await self._lags(transport, meant), self._reach.clock.now()
            await self._reach.clock.sleep(over)
            second = await self._lags(transport, meant) if over else first
            seconds = self._reach.clock.now() - began
            caps = transport.caps
        pauses = await self._paused()
        return {
            "schema": "seawall.queues/1",
            "pauses_known": pauses is not None,
            "queues": [
                queue_row(
                    each,
                    second[each],
                    caps,
                    rates(first[each], second[each], seconds) if over else (None, None),
                    (pauses or {}).get(each),
                    services,
                )
                for each, services in meant.items()
            ],
        }

    async def _lags(
        self, transport: Transport, meant: Mapping[Subscription, object]
    ) -> dict[Subscription, Lag]:
        room = asyncio.Semaphore(SIDE_BY_SIDE)

        async def one(subscription: Subscription) -> Lag:
            async with room:
                return await transport.lag(subscription)

        return dict(zip(meant, await asyncio.gather(*map(one, meant)), strict=True))

    async def peek(self, question: Question) -> Answer:
        limit = number(question.one("limit", "10"), "limit", MOST_PEEKED)
        async with self._reach.broker() as transport:
            one = await self._reach.one(transport, question.one("topic"), question.one("group"))
            found = await transport.peek(one, limit)
        return {
            "schema": "seawall.queue-peek/1",
            "topic": one.topic,
            "group": one.group,
            "messages": [waiting_row(each) for each in found],
        }

    async def _paused(self) -> dict[Subscription, Pause] | None:
        """What is paused; None if there is no way to know."""
        if not self._reach.knows_pauses:
            return None
        try:
            async with self._reach.pauses() as pauses:
                return {Subscription(each.topic, each.group): each for each in await pauses.read()}
        except Unavailable:
            return None

    async def pause(self, question: Question) -> Answer:
        values = question.body
        async with self._reach.broker() as transport:
            one = await self._reach.one(transport, *named(values))
        wanted = Pause(
            topic=one.topic,
            group=one.group,
            since=self._reach.clock.wall(),
            by=str(values.get("by") or _who()),
            why=str(values.get("why") or ""),
        )
        async with self._reach.pauses() as pauses:
            changed = await pauses.add(wanted)
            held = {(each.topic, each.group): each for each in await pauses.read()}
        pause = held.get((one.topic, one.group), wanted)
        return {
            "schema": "seawall.queue-pause/1",
            "topic": one.topic,
            "group": one.group,
            "changed": changed,
            "paused": pause_row(pause),
        }

    async def resume(self, question: Question) -> Answer:
        topic, group = named(question.body)
        async with self._reach.pauses() as pauses:
            # What is paused can be resumed although nobody knows its group any more.
            found = [
                each
                for each in await pauses.read()
                if each.topic == topic and group in ("", each.group)
            ]
            if len(found) > 1:
                groups = ", ".join(each.group for each in found)
                raise Misconfigured(f"{topic} is paused for {groups}", fix="name one of them")
            changed = bool(found) and await pauses.remove(topic, found[0].group)
        return {
            "schema": "seawall.queue-pause/1",
            "topic": topic,
            "group": found[0].group if found else group,
            "changed": changed,
            "paused": None,
        }


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MOST_SAMPLED:
        raise Misconfigured(f"over is 0 to {MOST_SAMPLED:g} seconds, not {text!r}")
    return seconds


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return ""
