"""A request to ourselves, of which nothing is left."""

import asyncio
import logging
import threading

import pytest

from seawall.registry.memory import MemoryRegistry
from seawall.service import rehearsal


async def test_a_rehearsal_says_nothing_and_leaves_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    before = {name: logging.getLogger(name).level for name in ("seawall", "uvicorn.error")}
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    await rehearsal.rehearse()
    await rehearsal.rehearse()  # a second one finds no trace of the first
    assert [record for record in caplog.records if record.name != "asyncio"] == []
    assert {name: logging.getLogger(name).level for name in before} == before
    assert set(threading.enumerate()) == threads
    assert asyncio.all_tasks() == tasks
    registry = MemoryRegistry("rehearsal")
    assert not await registry.read()
    await registry.aclose()


async def test_settings_that_are_wrong_are_for_the_start_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEAWALL_MESSAGES__URL", "pigeon://roof")
    await rehearsal.rehearse()
    monkeypatch.setenv("PORT", "eighty")
    await rehearsal.rehearse()


async def test_where_nothing_can_listen_there_is_no_rehearsal() -> None:
    await rehearsal.rehearse("203.0.113.1")  # an address for documentation: nobody's
