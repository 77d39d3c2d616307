"""What an operator may ask a service, and nobody else; and `seawall sagas` on top of it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

from seawall import Flow, Saga, Service, Step
from seawall.cli.main import main
from seawall.errors import Refused
from seawall.testing.platform import Platform

TOKEN = "operator's own"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}


class Order(BaseModel):
    order_id: str


ORDER = Saga("order", Order, [Step(name="reserve", command="reserve", ask=lambda o: o)])


@pytest.fixture
async def system() -> AsyncIterator[Platform]:
    async with Platform(operator_token=TOKEN) as platform:
        yield platform


@pytest.fixture
async def url(system: Platform) -> str:
    """Of a service with a saga, o-1, that waits for its first answer."""
    orders = Service("orders")
    database = orders.database()
    flow = Flow.attach(orders, database, ORDER)

    async def double(question: Mapping[str, Any]) -> Mapping[str, Any]:
        if question.get("n") == 13:
            raise Refused("not that one")
        return {"twice": question["n"] * 2}

    orders.offer("double", double)
    await system.start(orders)
    async with database.transaction() as tx:
        await flow.start(tx, "o-1", Order(order_id="o-1"))
    return system.url("orders")


async def test_it_is_answered_to_whoever_has_the_token(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
        answer = await http.post("/-/double", json={"n": 21}, headers=AUTHORIZED)
        assert (answer.status_code, answer.json()) == (200, {"twice": 42})
        for headers in ({}, {"authorization": "Bearer guess"}):
            answer = await http.post("/-/double", json={"n": 21}, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await http.get("/-/double", headers=AUTHORIZED)).status_code == 404
        assert (await http.post("/-/nothing", headers=AUTHORIZED)).status_code == 404


async def test_errors_are_problems(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url, headers=AUTHORIZED, timeout=30) as http:
        for body in (b"", b"[]", b"\xff", b'{"n": "' + b"9" * 70_000 + b'"}'):
            answer = await http.post("/-/double", content=body)
            assert answer.status_code == 400
        answer = await http.post("/-/double", json={"n": 13})
        assert (answer.status_code, answer.json()["detail"]) == (409, "not that one")


async def test_without_a_token_nobody_is_an_operator() -> None:
    async with Platform() as system:
        orders = Service("orders")
        Flow.attach(orders, orders.database(), ORDER)
        await system.start(orders)
        async with httpx2.AsyncClient(base_url=system.url("orders"), timeout=30) as http:
            answer = await http.post("/-/sagas", json={"do": "ls"}, headers=AUTHORIZED)
    assert answer.status_code == 403
    assert "SEAWALL_OPERATOR_TOKEN" in answer.json()["detail"]


async def test_seawall_sagas_at_a_url(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEAWALL_OPERATOR_TOKEN", TOKEN)

    async def seawall(*arguments: str) -> tuple[int, str, str]:
        words = ["sagas", *arguments, "--url", url, "--no-color"]
        status = await asyncio.to_thread(main, words)
        said = capsys.readouterr()
        return status, said.out, said.err

    status, out, _ = await seawall("ls")
    assert status == 0
    assert out.splitlines()[1].split()[1:6] == ["order", "v1", "o-1", "running", "reserve"]
    status, out, _ = await seawall("show", "o-1")
    assert "reserve asked for" in out
    status, _, err = await seawall("resume", "o-1")
    assert (status, "waits for an answer" in err) == (6, True)
    status, _, err = await seawall("skip", "o-1")
    assert (status, "--reason" in err) == (2, True)
    status, out, _ = await seawall("skip", "o-1", "--reason", "it is there", "--by", "ana")
    assert status == 0
    assert "reserve skipped by ana: it is there" in out
    assert "completed" in out.splitlines()[0]
    status, _, err = await seawall("show", "o-9")
    assert (status, "there is no saga o-9" in err) == (1, True)
