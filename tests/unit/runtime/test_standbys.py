"""Processes that wait to be told which replica to be: how many there are, and what they hear."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping

import pytest

from seawall.concurrency.tasks import Tasks
from seawall.errors import NotSent
from seawall.runtime.launcher import Child
from seawall.runtime.process import Output, Process
from seawall.runtime.program import Program
from seawall.runtime.standby import told
from seawall.runtime.standbys import Standby, Standbys
from seawall.testing.clock import ManualClock
from tests.support.waiting import settle


class Maker:
    """Makes standbys whose processes are futures, and whose ends of the sockets are kept."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.children: list[Child] = []
        self.calls: list[socket.socket] = []
        self.fails = False

    async def make(self) -> Standby:
        if self.fails:
            raise NotSent("there is no parent")
        read, write = os.pipe()
        os.close(write)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.calls.append(theirs)
        child = Child(1000 + len(self.children), 1.0, asyncio.get_running_loop().create_future())
        self.children.append(child)
        process = Process(child, Output(read, lambda line: None), self._clock)
        return Standby(process, ours, self)

    async def became(self, pid: int, program: Program, sockets: Mapping[str, int]) -> None:
        raise AssertionError("who takes it tells its parent")

    def unwanted(self, number: int) -> bool:
        """Whether its socket was closed without a word."""
        return self.calls[number].recv(1) == b""


@pytest.fixture
async def maker(clock: ManualClock) -> AsyncIterator[Maker]:
    made = Maker(clock)
    yield made
    for call in made.calls:
        call.close()
    await settle()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_what_is_taken_is_made_again_when_a_start_is_over(
    clock: ManualClock, maker: Maker
) -> None:
    standbys = Standbys(2, maker.make, clock)
    async with Tasks() as tasks:
        tasks.start(standbys.run())
        await settle()
        assert len(standbys) == 0
        clock.advance(0.5)
        await settle()
        assert len(standbys) == 2

        taken = standbys.take()
        assert taken is not None
        await settle()
        assert (taken.process.pid, len(standbys)) == (1000, 1)
        clock.advance(0.5)
        await settle()
        assert (len(standbys), len(maker.children)) == (2, 3)
        taken.call.close()
    assert maker.unwanted(1)
    assert maker.unwanted(2)
    assert standbys.take() is None


async def test_one_that_ends_by_itself_is_not_taken_and_not_made_again_at_once(
    clock: ManualClock, maker: Maker
) -> None:
    standbys = Standbys(1, maker.make, clock)
    async with Tasks() as tasks:
        tasks.start(standbys.run())
        await settle()
        clock.advance(0.5)
        await settle()
        maker.children[0].ended.set_result(3)
        assert standbys.take() is None  # also before anybody was told
        await settle()
        clock.advance(5.0)
        await settle()
        assert len(standbys) == 1


async def test_those_of_earlier_code_end(clock: ManualClock, maker: Maker) -> None:
    standbys = Standbys(1, maker.make, clock)
    async with Tasks() as tasks:
        tasks.start(standbys.run())
        await settle()
        clock.advance(0.5)
        await settle()
        standbys.discard()
        assert maker.unwanted(0)
        assert standbys.take() is None
        await settle()
        clock.advance(0.5)
        await settle()
        assert len(standbys) == 1


async def test_a_parent_that_is_away_is_asked_again(clock: ManualClock, maker: Maker) -> None:
    standbys = Standbys(1, maker.make, clock)
    maker.fails = True
    async with Tasks() as tasks:
        tasks.start(standbys.run())
        await settle()
        clock.advance(0.5)
        await settle()
        maker.fails = False
        clock.advance(5.0)
        await settle()
        assert len(standbys) == 1


async def test_it_hears_who_it_is_and_gets_its_sockets(clock: ManualClock, maker: Maker) -> None:
    standby = await maker.make()
    lines: list[str] = []
    clock.advance(60.0)
    read, write = os.pipe()
    try:
        assert standby.become(lines.append, {"SEAWALL_INSTANCE_ID": "hello-2"}, {"A_FD": read})
        heard = await told(maker.calls[0])
        assert heard is not None
        assert heard.pop("SEAWALL_INSTANCE_ID") == "hello-2"
        (number,) = heard.values()
        assert os.fstat(int(number)).st_ino == os.fstat(read).st_ino
        os.close(int(number))
    finally:
        os.close(read)
        os.close(write)
    assert standby.process.age() == 0.0  # it begins now, however long it waited


async def test_a_standby_that_is_gone_cannot_be_told(clock: ManualClock, maker: Maker) -> None:
    standby = await maker.make()
    maker.calls[0].close()
    assert not standby.become(lambda line: None, {}, {})


async def test_one_that_is_not_needed_hears_that(maker: Maker) -> None:
    standby = await maker.make()
    standby.call.close()
    assert await told(maker.calls[0]) is None
