"""A message that nobody can digest ends among the dead letters, and the queue goes on."""

import asyncio
from collections.abc import Sequence

import pytest

from seawall.messaging.base import DeadLetter, Message, Subscription
from seawall.messaging.connect import open_transport
from tests.faults.conftest import Notes
from tests.support.waiting import eventually_sync

QUEUE = Subscription("notes", "workers")


def _letters(url: str) -> Sequence[DeadLetter]:
    async def ask() -> Sequence[DeadLetter]:
        transport = open_transport(url)
        await transport.open()
        try:
            return await transport.dead_letters(QUEUE)
        finally:
            await transport.aclose()

    return asyncio.run(ask())


def _put(url: str, body: bytes) -> None:
    async def put() -> None:
        transport = open_transport(url)
        await transport.open()
        try:
            await transport.publish(QUEUE.topic, [Message("not-json", body)])
        finally:
            await transport.aclose()

    asyncio.run(put())


@pytest.mark.timeout(120)
def test_each_poison_has_its_reason_and_the_queue_goes_on(notes: Notes) -> None:
    def found() -> dict[str, DeadLetter]:
        return {letter.reason: letter for letter in _letters(notes.messages_url)}

    # One after the other: what is held by a process that dies on its last attempt counts as
    # poison too, since nobody can tell which of them it was.
    assert notes.post("bad").status_code == 202
    eventually_sync(lambda: "exhausted" in found(), within=30)
    notes.post("deadly")  # ends its process at each attempt; the first may be the one that answers
    _put(notes.messages_url, b"\xff no JSON")

    def taken() -> bool:
        notes.post()  # one that a dying process had gets 502, and was not taken
        return len(notes.confirmed) >= 20

    eventually_sync(taken, within=30)

    assert notes.lost() == set()

    # Its replica is restarted between its attempts, after a wait that grows and is drawn by lot.
    eventually_sync(lambda: len(found()) == 3, within=60)
    letters = found()
    assert set(letters) == {"exhausted", "poison", "undecodable"}
    assert "this note cannot be digested" in letters["exhausted"].error
    assert letters["undecodable"].message.body == b"\xff no JSON"
    assert b"deadly" in letters["poison"].message.body
    eventually_sync(lambda: notes.project.ready("notes-1", "notes-2"), within=30)
