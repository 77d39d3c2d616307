"""Looking into JetStream without changing anything: dead letters, counts, ages."""

import base64
from datetime import datetime
from typing import Any

from seawall.messaging.base import DeadLetter, Subscription, Waiting
from seawall.messaging.transports.nats_layout import (
    ALL_TOPICS,
    AT,
    Group,
    letter_of,
    subscription_of,
    waiting_of,
)
from seawall.messaging.transports.nats_link import Gone, NatsLink, checked

Stored = tuple[int, dict[str, str], bytes, float]  # sequence, headers, body, seconds since 1970


class Letters:
    """A group's dead letters, and how far it is behind."""

    def __init__(self, link: NatsLink) -> None:
        self._link = link

    async def _call(self, subject: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer, or None if the stream, consumer or message is not there."""
        (answer,) = await self._link.api((subject, body))
        try:
            return checked(answer)
        except Gone:
            return None

    async def _next(self, stream: str, subject: str, sequence: int) -> Stored | None:
        """The first message of `subject` from `sequence` on."""
        wanted = {"seq": sequence, "next_by_subj": subject}
        return _stored(await self._call(f"STREAM.MSG.GET.{stream}", wanted))

    # Dead letters

    async def page(self, subscription: Subscription, after: int, limit: int) -> list[DeadLetter]:
        group = Group.of(subscription)
        letters: list[DeadLetter] = []
        while len(letters) < limit:
            found = await self._next(group.topic.dead, group.dead, after + 1)
            if found is None:
                break
            after = found[0]
            letters.append(letter_of(subscription, *found))
        return letters

    async def one(self, subscription: Subscription, sequence: int) -> DeadLetter | None:
        group = Group.of(subscription)
        found = await self._next(group.topic.dead, group.dead, sequence)
        if found is None or found[0] != sequence:
            return None
        return letter_of(subscription, *found)

    async def delete(self, subscription: Subscription, sequence: int) -> int:
        stream = Group.of(subscription).topic.dead
        answer = await self._call(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})
        return int(bool(answer and answer.get("success")))

    # What waits

    async def subscriptions(self) -> list[Subscription]:
        found = []
        for stream in await self._names("STREAM.NAMES", "streams", {"subject": ALL_TOPICS}):
            for consumer in await self._names(f"CONSUMER.NAMES.{stream}", "consumers", {}):
                subscription = subscription_of(stream, consumer)
                if subscription is not None:
                    found.append(subscription)
        return found

    async def _names(self, call: str, kind: str, wanted: dict[str, Any]) -> list[str]:
        """All names of a list that the server tells in pages."""
        names: list[str] = []
        while True:
            answer = await self._call(call, {**wanted, "offset": len(names)})
            page = (answer or {}).get(kind) or []
            names += page
            if not page or len(names) >= (answer or {}).get("total", 0):
                return names

    async def peek(self, subscription: Subscription, limit: int) -> list[Waiting]:
        """What the group's consumers were not given yet, of its own stream first."""
        group = Group.of(subscription)
        topic = group.topic
        found: list[Waiting] = []
        for stream, subject in ((topic.work, group.again), (topic.stream, topic.subject)):
            info = await self._call(f"CONSUMER.INFO.{stream}.{group.consumer}", {})
            last = 0 if info is None else info["delivered"]["stream_seq"]
            while len(found) < limit:
                stored = await self._next(stream, subject, last + 1)
                if stored is None:
                    break
                last = stored[0]
                found.append(waiting_of(*stored))
        return found

    # Counts and ages

    async def traffic(self, subscription: Subscription) -> tuple[int, int]:
        """How many were published to the topic, and how many of them the group was given."""
        group = Group.of(subscription)
        stream = group.topic.stream
        info = await self._call(f"STREAM.INFO.{stream}", {})
        mine = await self._call(f"CONSUMER.INFO.{stream}.{group.consumer}", {})
        return (
            0 if info is None else info["state"]["last_seq"],
            0 if mine is None else mine["delivered"]["stream_seq"],
        )

    async def consumers(self, subscription: Subscription) -> tuple[int, int, tuple[int, int]]:
        """Ready, in flight, and up to where each of the group's consumers has settled all."""
        group = Group.of(subscription)
        ready = in_flight = 0
        floors = [0, 0]
        for place, stream in enumerate((group.topic.stream, group.topic.work)):
            info = await self._call(f"CONSUMER.INFO.{stream}.{group.consumer}", {})
            if info is not None:
                ready += info["num_pending"]
                in_flight += info["num_ack_pending"]
                floors[place] = info["ack_floor"]["stream_seq"]
        return ready, in_flight, (floors[0], floors[1])

    async def counts(self, subscription: Subscription) -> tuple[int, int]:
        """Delayed (for the group or for the whole topic) and dead."""
        group = Group.of(subscription)
        topic = group.topic
        work = await self._subjects(topic.work, topic.all_later)
        dead = await self._subjects(topic.dead, group.dead)
        return work.get(group.later, 0) + work.get(topic.later, 0), dead.get(group.dead, 0)

    async def _subjects(self, stream: str, subject: str) -> dict[str, int]:
        info = await self._call(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
        return {} if info is None else info["state"].get("subjects") or {}

    async def oldest(self, subscription: Subscription, floors: tuple[int, int]) -> float:
        """When the oldest message not yet settled was published, seconds since 1970; 0 if none.

        Of those that were retried or delayed, the one that was stored first counts.
        """
        group = Group.of(subscription)
        topic = group.topic
        times = []
        for stream, subject, floor in (
            (topic.stream, topic.subject, floors[0]),
            (topic.work, group.again, floors[1]),
            (topic.work, group.later, 0),
            (topic.work, topic.later, 0),
        ):
            found = await self._next(stream, subject, floor + 1)
            if found is not None:
                at = found[1].get(AT)
                times.append(found[3] if at is None else int(at) / 1000)
        return min(times, default=0.0)


def _stored(answer: dict[str, Any] | None) -> Stored | None:
    if answer is None:
        return None
    message = answer["message"]
    lines = base64.b64decode(message.get("hdrs") or "").decode(errors="replace").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    at = datetime.fromisoformat(message["time"]).timestamp()
    return message["seq"], headers, base64.b64decode(message.get("data") or ""), at
