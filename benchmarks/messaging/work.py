"""What the processes of every subject do alike: the body, the count, the pace.

Every handler decodes the JSON body and counts. Publishers keep `IN_FLIGHT` messages under way.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, NoReturn

from seawall.wire.envelope import Envelope, to_headers

IN_FLIGHT = 256
RATE = 500  # messages a second when paced
WARM_UP = 300  # paced messages that are not counted
GROUP = "bench"

BODY = {
    "order_id": "0190a5c4-0000-7000-8000-000000000000",
    "customer": "c-4711",
    "lines": [{"sku": "tea-green-100", "quantity": 2, "price": 450}],
    "note": "x" * 90,
}

Figures = Mapping[str, float]
Publish = Callable[[bytes], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Task:
    """What one process is to do.

    `publish` stores `count` messages, `consume` takes those, `pace` stores them at `RATE` a
    second, each at its own scheduled time, and `listen` takes those and notes how late each was.
    """

    role: str
    broker: str
    url: str
    topic: str
    count: int

    @property
    def takes(self) -> bool:
        return self.role in ("consume", "listen")


def message_id(serial: int) -> str:
    """No other process has it: NATS stores nothing a second time."""
    return f"0190a5c4-{os.getpid()}-{serial}"


def event(serial: int) -> dict[str, str]:
    """The headers that Seawall sends with a message: it is a CloudEvent."""
    envelope = Envelope(id=message_id(serial), type="bench", source="/bench", time=time.time())
    return to_headers(envelope)


def body(sent_at: float = 0.0) -> bytes:
    return json.dumps({**BODY, "sent_at": sent_at}).encode()


def say(word: str) -> None:
    """ "ready" when messages may be published, "taking" when the first one has come."""
    print(word, flush=True, file=sys.__stdout__)  # Celery redirects sys.stdout


def ready() -> None:
    say("ready")


class Counter:
    """What a handler does: decode, count, and note how old the message was."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._seen = 0
        self._late: list[float] = []
        self.done = asyncio.Event()
        self.first_at = 0.0
        self.first_cpu = 0.0

    def __call__(self, data: bytes) -> None:
        self.count(json.loads(data))

    def count(self, order: dict[str, Any]) -> None:
        if not self._seen:
            self.first_at, self.first_cpu = time.monotonic(), time.process_time()
            say("taking")
        self._seen += 1
        if order["sent_at"]:
            self._late.append(time.monotonic() - order["sent_at"])
        if self._seen >= self._wanted:
            self.done.set()

    def report(self) -> Figures:
        figures = {
            "seconds": time.monotonic() - self.first_at,
            "cpu": time.process_time() - self.first_cpu,
        }
        if self._late:
            cut = quantiles(self._late[WARM_UP:], n=100)
            figures |= {"p50_ms": cut[49] * 1000, "p99_ms": cut[98] * 1000}
        return figures


async def send(publish: Publish, task: Task) -> Figures:
    """Publish as the task says, `IN_FLIGHT` under way at any time."""
    if task.role == "pace":
        return await _paced(publish, task.count)
    remaining = iter(range(task.count))

    async def work() -> None:
        for _ in remaining:
            await publish(body())

    began, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}


async def _paced(publish: Publish, count: int) -> Figures:
    async def one(scheduled: float) -> None:
        await publish(body(scheduled))

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for n in range(count):
            scheduled = began + n / RATE
            await asyncio.sleep(max(0.0, scheduled - time.monotonic()))
            tasks.create_task(one(scheduled))
    return {"seconds": time.monotonic() - began}


def send_one_by_one(publish: Callable[[bytes], object], task: Task) -> Figures:
    """The same for clients that block."""
    began, cpu = time.monotonic(), time.process_time()
    for n in range(task.count):
        scheduled = began + n / RATE if task.role == "pace" else 0.0
        if scheduled:
            time.sleep(max(0.0, scheduled - time.monotonic()))
        publish(body(scheduled))
    return {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}


def leave(figures: Figures) -> NoReturn:
    """Report and end at once: not every framework's worker ends when it is asked to."""
    print(json.dumps(figures), flush=True, file=sys.__stdout__)
    os._exit(0)
