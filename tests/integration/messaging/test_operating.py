"""Operating the messages of running services: through the admin API's answers, and the commands."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from seawall import Event, Reject, Service
from seawall.cli.main import main
from seawall.errors import Misconfigured
from seawall.messaging.base import Message, Subscription
from seawall.messaging.connect import open_transport
from seawall.runtime.admin import Answerer, Question
from seawall.runtime.fleets import UnknownName
from seawall.runtime.messages import message_routes
from seawall.testing.platform import Platform
from tests.support.servers import RespServer
from tests.support.transports import bury, store
from tests.support.waiting import eventually, eventually_async


class Placed(Event):
    number: int


@pytest.fixture
async def system(valkey: RespServer, unique: str) -> AsyncIterator[Platform]:
    async with Platform(registry=f"{valkey.url}?namespace={unique}", messages=valkey.url) as it:
        yield it


class Operator:
    """Asks as the admin API would."""

    def __init__(self, routes: Mapping[tuple[str, str], Answerer]) -> None:
        self._routes = routes

    async def get(self, path: str, **query: str) -> Mapping[str, Any]:
        asked = {name: [value] for name, value in query.items()}
        answer = await self._routes["GET", path](Question("GET", path, asked, {}))
        assert isinstance(answer, Mapping)
        return answer

    async def post(self, path: str, **values: Any) -> Any:
        return await self._routes["POST", path](Question("POST", path, {}, values))

    async def last(self, path: str, **values: Any) -> Mapping[str, Any]:
        """The last line of a long piece of work."""
        lines = [line async for line in await self.post(path, **values)]
        return dict(lines[-1])


@pytest.fixture
def operator(system: Platform) -> Operator:
    return Operator(message_routes(system.messages_url, system.registry_url))


async def test_a_dead_letter_is_found_edited_and_sent_again(
    system: Platform, operator: Operator, unique: str
) -> None:
    service, seen = Service("mail"), []

    @service.on(unique)
    async def placed(event: Placed) -> None:
        if event.number < 0:
            raise Reject(f"order {event.number} is no order")
        seen.append(event.number)

    await system.start(service)
    message_id = await system.publish(unique, {"number": -7})

    async def dead() -> Mapping[str, Any]:
        return await operator.get("/v1/dlq", topic=unique, show="9")

    await eventually_async(lambda: _some(dead()))
    answer = await dead()
    (cause,) = answer["causes"]
    assert cause["error"] == "Reject: order -<n> is no order"
    assert cause["place"] == "test_operating.py placed"
    assert [letter["message_id"] for letter in answer["letters"]] == [message_id]
    (whole,) = (await operator.get("/v1/dlq/letters", id=message_id))["letters"]
    assert json.loads(whole["body"]["text"]) == {"number": -7}
    assert "in test_a_dead_letter" in whole["stack"]

    await operator.post("/v1/dlq/edit", id=message_id, topic=unique, body="eyJudW1iZXIiOjd9")
    (row,) = (await dead())["letters"]
    assert (row["message_id"], row["attempts"]) == (message_id, 1)
    assert row["edited_at"]
    last = await operator.last("/v1/dlq/redrive", id=[message_id], topic=unique)
    assert (last["done"], last["total"], last["finished"]) == (1, 1, True)
    await eventually(lambda: seen == [7])
    assert (await dead())["total"] == 0


async def _some(answer: Any) -> bool:
    return bool((await answer)["total"])


async def test_a_paused_group_takes_nothing_even_after_a_restart(
    system: Platform, operator: Operator, unique: str
) -> None:
    service, seen = Service("mail"), []

    @service.on(unique)
    async def placed(event: Placed) -> None:
        seen.append(event.number)

    await system.start(service)
    said = await operator.post("/v1/queues/pause", topic=unique, by="jo", why="bank is down")
    assert (said["group"], said["changed"]) == ("mail", True)
    again = await operator.post("/v1/queues/pause", topic=unique, group="mail", by="other")
    assert (again["changed"], again["paused"]["by"]) == (False, "jo")
    await eventually(lambda: _paused(service) == {Subscription(unique, "mail")})
    metrics = await system.client("mail").get("/metrics")
    assert f'seawall_queue_paused{{group="mail",queue="{unique}"}} 1' in metrics.text
    ready = await system.client("mail").get("/readyz")
    assert (ready.status, ready.text.splitlines()[1:]) == (
        *(200, [f"{unique}/mail is paused by an operator"]),
    )
    await system.publish(unique, {"number": 1})
    await system.stop("mail")
    await system.start(service)
    (row,) = (await operator.get("/v1/queues", topic=unique, over="0.01"))["queues"]
    assert (row["published_per_s"], row["taken_per_s"]) == (0, 0)
    assert (row["ready"], row["in_flight"], row["services"]) == (1, 0, ["mail"])
    assert (row["paused"]["by"], row["paused"]["why"]) == ("jo", "bank is down")
    assert seen == []
    await operator.post("/v1/queues/resume", topic=unique)
    await eventually(lambda: seen == [1])


def _paused(service: Service) -> set[Subscription]:
    return set() if service.life is None else set(service.life.held_back)


async def test_names_that_nobody_has_are_told_with_what_is_close(
    system: Platform, operator: Operator, unique: str
) -> None:
    await system.transport.provision([Subscription(unique, "mail"), Subscription(unique, "stock")])
    with pytest.raises(UnknownName, match="did you mean 'mail'"):
        await operator.get("/v1/dlq", topic=unique, group="mial")
    with pytest.raises(Misconfigured, match="mail, stock"):
        await operator.get("/v1/queues/peek", topic=unique)
    with pytest.raises(UnknownName, match="no dead letter"):
        await operator.get("/v1/dlq/letters", id="none", topic=unique)


async def test_all_dead_letters_have_to_be_asked_for(
    system: Platform, operator: Operator, unique: str
) -> None:
    await bury(system.transport, Subscription(unique, "g"), "a", "b", "c")
    refused = await operator.last("/v1/dlq/purge", topic=unique)
    assert (refused["finished"], refused["code"]) == (False, "Misconfigured")
    dry = await operator.last("/v1/dlq/purge", topic=unique, all=True, dry_run=True)
    assert (dry["done"], dry["total"]) == (0, 3)
    done = await operator.last("/v1/dlq/purge", topic=unique, all=True, limit=2)
    assert (done["done"], done["total"]) == (2, 2)
    assert (await operator.get("/v1/dlq", topic=unique))["total"] == 1


async def test_messages_in_memory_cannot_be_reached(operator: Operator) -> None:
    alone = Operator(message_routes("memory://x", "memory://x"))
    with pytest.raises(Misconfigured, match="own process"):
        await alone.get("/v1/queues")
    bare = Operator(message_routes("memory://x", None))
    with pytest.raises(Misconfigured, match="registry"):
        await bare.post("/v1/queues/resume", topic="t")


# The commands, on a broker without a supervisor


def _fill(url: str, sub: Subscription) -> None:
    async def fill() -> None:
        transport = open_transport(url)
        await transport.open()
        await bury(transport, sub, "a-1", "a-2")
        await store(transport, sub.topic, Message("ready", b'{"n":1}'))
        await transport.aclose()

    asyncio.run(fill())


def test_commands_work_on_a_broker(
    valkey: RespServer, unique: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url, registry = valkey.url, f"{valkey.url}?namespace={unique}"
    _fill(url, Subscription(unique, "g"))
    place = ["--topic", unique, "--url", url, "--registry", registry]

    def said(*words: str) -> str:
        assert main([*words, "--no-color"]) == 0
        return capsys.readouterr().out

    assert "2 x rejected" in said("dlq", "ls", *place)
    body = tmp_path / "body"
    body.write_bytes(b'{"n":2}')
    assert "new body" in said("dlq", "edit", "a-1", "--body", str(body), *place)
    assert '"n": 2' in said("dlq", "show", "a-1", *place)
    assert "1 dead letter would be redriven" in said("dlq", "redrive", "a-1", "--dry-run", *place)
    assert "1 dead letter sent again" in said("dlq", "redrive", "a-1", *place)
    assert "1 dead letter deleted" in said("dlq", "purge", "--all", "--yes", *place)
    assert json.loads(said("dlq", "ls", "--json", *place))["total"] == 0
    queues = [unique, "g", "--url", url, "--registry", registry]
    peeked = json.loads(said("queues", "peek", "--json", *queues))["messages"]
    assert [message["message_id"] for message in peeked] == ["a-1", "ready"]
    assert "paused" in said("queues", "pause", *queues)
    assert "state        paused" in said("queues", "show", "--over", "0", *queues)
    assert "goes on" in said("queues", "resume", *queues)
    assert main(["dlq", "purge", "--all", *place]) == 0  # there is nothing left to ask for
