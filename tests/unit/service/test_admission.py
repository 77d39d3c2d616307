"""Who is let in, who waits and who is refused, on a clock that stands still."""

import asyncio
import json
from random import Random
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from seawall.errors import Misconfigured
from seawall.resilience.deadline import Deadline
from seawall.service import context
from seawall.service.admission import AdmissionConfig, Gate, Overloaded, Relieved, parse
from seawall.telemetry.metrics import Metrics
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually

OK = [(b"content-type", b"text/plain")]


class House:
    """A gate before an application that works until it is told to end."""

    def __init__(self, **said: Any) -> None:
        config = AdmissionConfig(**{"kind": "fixed", "initial": 2, "minimum": 1, **said})
        self.metrics, self.facts, self.clock = Metrics("house", "1"), list[object](), ManualClock()
        self.ends: dict[str, asyncio.Event] = {}
        self.headers = OK
        told = ("house", config, self.metrics, self.facts.append, Random(1), self.clock)
        self.gate = Gate(self._app, *told)
        self.answers: dict[str, Message] = {}
        self.bodies: dict[str, bytes] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        ends = self.ends[scope["query_string"].decode()] = asyncio.Event()
        if self.headers is not OK:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await ends.wait()
        if self.headers is OK:
            await send({"type": "http.response.start", "status": 200, "headers": OK})
        await send({"type": "http.response.body", "body": b"done"})

    async def ask(self, name: str, path: str = "/", *headers: tuple[bytes, bytes]) -> None:
        """Come in, as `name`; returns once it is let in, waits or is refused."""
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": headers,
            "query_string": name.encode(),
        }

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.answers[name] = message
            else:
                self.bodies[name] = message.get("body", b"")

        async def receive() -> Message:
            return {"type": "http.request"}

        waiting = len(self.gate._room)
        task = asyncio.get_running_loop().create_task(self.gate(scope, receive, send))
        self.tasks[name] = task
        await eventually(lambda: task.done() or name in self.ends or len(self.gate._room) > waiting)

    async def end(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
            await self.tasks[name]

    @property
    def inside(self) -> list[str]:
        return [name for name in self.ends if not self.tasks[name].done()]


async def test_who_waits_is_let_in_as_others_end_the_most_important_first() -> None:
    house = House(critical=("/pay",))
    for name in ("a", "b", "c"):
        await house.ask(name)
    await house.ask("d", "/pay")  # a critical one has its share for certain
    await house.ask("e", "/pay")
    assert house.inside == ["a", "b", "d"]
    await house.end("a")
    await house.end("b")
    await eventually(lambda: "c" in house.ends)
    assert list(house.ends) == ["a", "b", "d", "e", "c"]
    await house.end("c", "d", "e")
    assert house.gate.admission.taken == 0
    assert not house.facts


async def test_what_is_sheddable_is_refused_at_once_and_told_when_to_come_again() -> None:
    house = House(sheddable=("/reports/*",))
    await house.ask("a")
    await house.ask("b")
    await house.ask("s", "/reports/1")  # its share
    await house.ask("t", "/reports/2")
    assert house.answers["t"]["status"] == 503
    assert (b"retry-after", b"1") in house.answers["t"]["headers"]
    body = json.loads(house.bodies["t"])
    assert (body["retryable"], body["service"]) == (True, "house")
    assert "sheddable" in body["detail"]
    assert house.facts == [Overloaded("house", 2)]
    text = (await asyncio.to_thread(house.metrics.render))[0].decode()
    (shed,) = (line for line in text.splitlines() if line.startswith("seawall_admission_shed_t"))
    assert 'importance="sheddable"' in shed
    assert shed.endswith(" 1.0")
    assert 'seawall_admission_limit{service="house"} 2' in text
    await house.end("a", "b", "s")


async def test_nobody_waits_longer_than_a_while() -> None:
    house = House(wait=0.5)
    for name in ("a", "b", "c"):
        await house.ask(name)
    house.clock.advance(0.6)
    await house.tasks["c"]
    assert house.answers["c"]["status"] == 503
    await house.end("a", "b")


async def test_a_deadline_that_allows_no_answer_is_not_waited_for() -> None:
    house = House()
    await house.ask("a")
    house.clock.advance(0.2)  # an answer takes as long
    await house.end("a")
    await house.ask("b")
    await house.ask("c")
    context.enter(context.Context("r", Deadline.after(0.1, house.clock.now())))
    await house.ask("d")
    assert house.answers["d"]["status"] == 503
    text = (await asyncio.to_thread(house.metrics.render))[0].decode()
    assert 'reason="deadline"' in text
    await house.end("b", "c")


async def test_who_leaves_while_it_waits_takes_nobody_s_place() -> None:
    house = House()
    for name in ("a", "b", "c", "d"):
        await house.ask(name)
    house.tasks["c"].cancel()
    house.ends["a"].set()  # its place may go to the one that leaves in this moment
    await asyncio.wait([house.tasks["c"]])
    await eventually(lambda: "d" in house.ends)
    await house.end("b", "d")
    assert house.gate.admission.taken == 0


async def test_a_stream_of_events_holds_no_place() -> None:
    house = House()
    house.headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    for name in ("a", "b", "c"):
        await house.ask(name)
    assert house.inside == ["a", "b", "c"]
    await house.end("a", "b", "c")
    assert house.gate.admission.taken == 0


async def test_a_caller_s_word_on_importance_wins() -> None:
    house = House(sheddable=("/",))
    await house.ask("a")
    await house.ask("b")
    await house.ask("c", "/", (b"x-importance", b"critical"))
    assert house.inside == ["a", "b", "c"]
    await house.end("a", "b", "c")


async def test_an_overload_that_is_over_is_told_once() -> None:
    house = House(queue=0)
    for name in ("a", "b", "c", "d"):
        await house.ask(name)
    house.clock.advance(6.0)
    await house.ask("e")
    told = [Overloaded("house", 2), Relieved("house", 2, 0.0), Overloaded("house", 2)]
    assert house.facts == told
    await house.end("a", "b")


def test_it_is_read_from_what_the_supervisor_says() -> None:
    config = parse('{"kind": "aimd", "initial": 30, "critical": ["POST /orders"]}')
    assert (config.limit.kind, config.limit.initial) == ("aimd", 30)
    assert config.critical == ("POST /orders",)


@pytest.mark.parametrize(
    "text", ["", "gradient2", "[]", '{"kinds": 1}', '{"kind": "best"}', '{"initial": "x"}']
)
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured):
        parse(text)


@pytest.mark.parametrize("path", ["pay", "/a*b", "GET pay"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(Misconfigured, match="no path"):
        House(critical=(path,))
