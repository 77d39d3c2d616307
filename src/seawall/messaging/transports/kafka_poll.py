"""The thread that reads one subscription from Kafka, and never waits for a handler.

It only polls, pauses partitions that have enough, and passes what happens to the event loop,
where all decisions are. Polling goes on while handlers run, so the group keeps this member.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from seawall.messaging.transports.kafka_options import Kafka

Partition = tuple[str, int]
Stored = tuple[str, int, int, str]  # topic, partition, offset, text beside it

# What is passed to the loop at once. Enough to make the hop cheap, little enough to be quick.
BATCH = 500

# Batches that the loop has not looked at yet; then the thread waits for it.
AHEAD = 2

# A wait for a message ends early for nothing else: not for a commit, for the client lets no other
# thread in meanwhile. So while a commit is to be expected the thread waits for that, and looks for
# messages in between: they are late by no longer than a handler takes, or `LONGEST_LOOK`. Waits
# double while nothing happens; an idle thread wakes 20 times a second.
SHORTEST_POLL, LONGEST_LOOK, LONGEST_POLL = 0.0005, 0.005, 0.05  # seconds

# Brokers' default bounds of a session (group.min.session.timeout.ms, group.max.…), in seconds.
SHORTEST_SESSION, LONGEST_SESSION = 6.0, 1_800.0

# What librdkafka keeps ready beyond what was passed on, for each subscription.
PREFETCH_KBYTES = 16 * 1024

TRIES = 3  # of reading the committed offsets of partitions that were assigned


class Listener(Protocol):
    """Who decides; everything is called on the event loop."""

    def assigned(self, stored: Sequence[Stored]) -> None: ...

    def arrived(self, messages: Sequence[Message]) -> None: ...

    async def hand_over(
        self, partitions: Sequence[Partition], *, finish: bool
    ) -> Sequence[Stored]: ...

    def ended(self, error: Exception | None) -> None: ...


def session_of(options: Kafka, lease: float) -> float:
    """Seconds until a silent member is taken for dead."""
    return options.session or min(max(lease, SHORTEST_SESSION), LONGEST_SESSION)


class Poller:
    """Owns the consumer and its thread."""

    def __init__(
        self,
        options: Kafka,
        group: str,
        topics: Sequence[str],
        listener: Listener,
        *,
        lease: float,
        static: Sequence[Partition] = (),
    ) -> None:
        self._options = options
        self._topics = list(topics)
        self._static = static
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._paused: frozenset[Partition] = frozenset()
        self._stopping = False
        self._asked: SimpleQueue[tuple[Sequence[Stored], Future[None]]] = SimpleQueue()
        self._room = threading.Semaphore(AHEAD)
        self.enough: frozenset[Partition] = frozenset()  # written by the loop: to be paused
        self.handed_out = False  # written by the loop: something is, and will be settled
        session = int(session_of(options, lease) * 1000)
        self.consumer = Consumer(
            {
                **options.common,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": session,
                "heartbeat.interval.ms": max(100, min(3_000, session // 3)),
                "queued.max.messages.kbytes": PREFETCH_KBYTES,
                **options.settings,
            }
        )
        self._thread = threading.Thread(target=self._run, name=f"kafka-{group}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True

    def join(self) -> None:
        """Blocks until the thread has ended."""
        self._thread.join()

    def looked_at(self) -> None:
        """On the loop: a batch that was passed on has been taken."""
        self._room.release()

    async def commit(self, stored: Sequence[Stored]) -> None:
        """Return when the broker has these offsets."""
        asked: Future[None] = Future()
        self._asked.put((stored, asked))
        if not self._thread.is_alive():
            self._refuse_rest()
        await asyncio.wrap_future(asked)

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._begin()
            self._poll_until_stopped()
        except (KafkaException, RuntimeError) as failure:
            error = failure
        finally:
            with suppress(KafkaException, RuntimeError):
                self.consumer.close()
            self._post(self._listener.ended, error)
            self._refuse_rest()

    def _poll_until_stopped(self) -> None:
        patience, passed_on = SHORTEST_POLL, False
        while not self._stopping:
            self._pause_and_resume()
            if passed_on or self.handed_out:
                committed = self._commit_what_is_asked(min(patience, LONGEST_LOOK))
                first = self.consumer.poll(0)
            else:
                committed = self._commit_what_is_asked()
                first = self.consumer.poll(patience)
            passed_on = first is not None
            patience = SHORTEST_POLL if committed or passed_on else min(LONGEST_POLL, patience * 2)
            if first is not None:
                self._pass_on([first, *self.consumer.consume(BATCH - 1, 0)])

    def _commit_what_is_asked(self, within: float = 0.0) -> bool:
        """Whether anything was asked; the first is waited for so many seconds."""
        asked_any = False
        with suppress(Empty):
            while True:
                stored, asked = self._asked.get(timeout=0.0 if asked_any else within)
                asked_any = True
                if not asked.set_running_or_notify_cancel():
                    continue
                try:
                    self._commit(stored)
                except KafkaException as error:
                    asked.set_exception(error)
                else:
                    asked.set_result(None)
        return asked_any

    def _commit(self, stored: Sequence[Stored]) -> None:
        offsets = [TopicPartition(*each) for each in stored]
        for partition in self.consumer.commit(offsets=offsets, asynchronous=False) or ():
            if partition.error is not None:
                raise KafkaException(partition.error)

    def _refuse_rest(self) -> None:
        """The consumer is closed: nobody commits any more."""
        while not self._asked.empty():
            with suppress(Empty):
                _, asked = self._asked.get_nowait()
                if asked.set_running_or_notify_cancel():
                    asked.set_exception(KafkaException(KafkaError(KafkaError._STATE)))

    def _begin(self) -> None:
        if self._static:
            partitions = [TopicPartition(topic, number) for topic, number in self._static]
            self._take(partitions, self.consumer.assign)
        else:
            self.consumer.subscribe(
                self._topics,
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )

    def _pass_on(self, messages: Sequence[Message]) -> None:
        good = []
        for message in messages:
            error = message.error()
            if error is None:
                good.append(message)
            elif not error.retriable() and error.code() not in _PASSING:
                raise KafkaException(error)
        while not self._stopping and good:
            if self._room.acquire(timeout=LONGEST_POLL):
                self._post(self._listener.arrived, good)
                return

    def _pause_and_resume(self) -> None:
        wanted = self.enough
        if wanted == self._paused:
            return
        ours = {(p.topic, p.partition) for p in self.consumer.assignment()}
        pause = (wanted - self._paused) & ours
        resume = (self._paused - wanted) & ours
        if pause:
            self.consumer.pause([TopicPartition(*partition) for partition in pause])
        if resume:
            self.consumer.resume([TopicPartition(*partition) for partition in resume])
        self._paused = wanted

    # Partitions come and go

    def _take(
        self,
        partitions: list[TopicPartition],
        assign: Callable[[list[TopicPartition]], None],
    ) -> None:
        stored: list[Stored] = []
        for partition in self._committed(partitions):
            # A group without an offset begins with the oldest message there is: 0, or where
            # the log begins (auto.offset.reset).
            offset, text = max(0, partition.offset), partition.metadata or ""
            stored.append((partition.topic, partition.partition, offset, text))
        self._post(self._listener.assigned, stored)
        assign([TopicPartition(topic, number, offset) for topic, number, offset, _ in stored])

    def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        for tries_left in reversed(range(TRIES)):
            try:
                found = self.consumer.committed(partitions, timeout=self._options.timeout)
            except KafkaException:
                if not tries_left:
                    raise
            else:
                return found
        raise AssertionError("unreachable")

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._take(partitions, self.consumer.incremental_assign)

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        stored = self._wait(self._listener.hand_over(_names(partitions), finish=True))
        with suppress(KafkaException):  # then the next owner begins where we did
            if stored:
                self._commit(stored)
        self._leave(partitions)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._wait(self._listener.hand_over(_names(partitions), finish=False))
        self._leave(partitions)

    def _leave(self, partitions: list[TopicPartition]) -> None:
        self._paused -= frozenset(_names(partitions))
        self.consumer.incremental_unassign(partitions)

    def _wait(self, work: Coroutine[Any, Any, Sequence[Stored]]) -> Sequence[Stored]:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(call, *arguments)


# What the broker says about a partition and takes back by itself.
_PASSING = {
    KafkaError._PARTITION_EOF,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
}


def _names(partitions: Sequence[TopicPartition]) -> list[Partition]:
    return [(partition.topic, partition.partition) for partition in partitions]
