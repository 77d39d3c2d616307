"""What a parent tells its next supervisor, and what of it is taken over."""

import asyncio
import json
import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from seawall.concurrency.tasks import Tasks
from seawall.runtime.environment import same
from seawall.runtime.inheritance import Estate, Heirloom, inherited
from seawall.runtime.launcher import Child
from seawall.runtime.orphaned import await_heir, hand_over, meeting_place
from seawall.runtime.program import Program
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually

PROGRAM = Program(
    name="web-1",
    call="seawall.service.serve:serve",
    arguments=("web:service",),
    environment={
        "SEAWALL_INSTANCE_ID": "web-1",
        "SEAWALL_INCARNATION": "one",
        "SEAWALL_OPERATOR_TOKEN": "secret",
        "SEAWALL_DRAIN_SECONDS": "10",
        "COLOUR": "red",
        "WINDOWID": "7",
    },
)
TERMINAL = {"WINDOWID": "8", "SEAWALL_OPERATOR_TOKEN": "secret"}


def changed(**variables: str) -> Program:
    values = PROGRAM.to_json()
    return Program.from_json({**values, "environment": {**values["environment"], **variables}})


@pytest.mark.parametrize(
    ("wanted", "goes_on"),
    [
        (changed(), True),
        (changed(SEAWALL_INCARNATION="two", WINDOWID="8"), True),
        (changed(COLOUR="blue"), False),
        (changed(SEAWALL_DRAIN_SECONDS="20"), False),
        (changed(NEW="yes"), False),
        (Program(name="web-1", arguments=("node", "web.js")), False),
    ],
)
def test_what_runs_the_same_goes_on(wanted: Program, goes_on: bool) -> None:
    assert same(PROGRAM, wanted, TERMINAL) is goes_on


async def test_an_estate_knows_places_and_the_token() -> None:
    loop = asyncio.get_running_loop()
    processes = {
        name: Heirloom(Child(number, 1.0, loop.create_future()), PROGRAM, {})
        for number, name in enumerate(("web-1", "web-3", "web-api-2", "valkey"))
    }
    estate = Estate(processes=processes)
    assert estate.numbers("web") == [1, 3]
    assert estate.numbers("web-api") == [2]
    assert estate.token == "secret"
    assert estate.unwanted(["web-1", "valkey"]) == ["web-3", "web-api-2"]
    processes["web-3"].child.ended.set_result(0)
    assert estate.take("web-3") is None  # it has ended by now
    taken = estate.take("web-1")
    assert taken is not None
    assert (taken.incarnation, estate.take("web-1")) == ("one", None)


def waits(prefix: str) -> bool:
    return Path(meeting_place(prefix, os.getpid())).exists()


def _wait_as_a_parent(prefix: str, name: str, fd: int) -> None:
    """What a parent does: wait for an heir, and tell it of one child."""
    read, write = os.pipe()
    heir = await_heir(prefix, read, list, lambda: None)
    assert heir is not None
    me = {"parent": os.getpid(), "name": name, "warm": ["uvloop"], "fds": []}
    child = {"child": 1, "program": PROGRAM.to_json(), "branch": False, "fds": ["discard"]}
    told = {"told": True}
    facts = [(json.dumps(me), {}), (json.dumps(child), {"discard": fd}), (json.dumps(told), {})]
    with heir:
        assert hand_over(heir, facts)
        with suppress(BrokenPipeError, ConnectionResetError):  # who lets it go may be quick
            heir.sendall(b'{"pid": 1, "status": 0}\n')
            heir.settimeout(30)
            while heir.recv(100):
                continue
    os.close(read)
    os.close(write)


async def test_a_parent_that_waits_is_taken_over_with_its_children(tmp_path: Path) -> None:
    prefix = str(tmp_path / "parent")
    read, write = os.pipe()
    async with Tasks() as tasks:
        waiting = tasks.start(asyncio.to_thread(_wait_as_a_parent, prefix, "", read))
        await eventually(lambda: waits(prefix))
        estate = await inherited(prefix, tasks, ManualClock())
        assert estate.root is not None
        assert estate.warm
        heirloom = estate.get("web-1")
        assert heirloom is not None
        assert os.fstat(heirloom.fds["discard"]).st_ino == os.fstat(read).st_ino
        await heirloom.child.ended  # what is told after the rest is heard too
        heirloom.close()
        estate.root.close()
        await waiting
    os.close(read)
    os.close(write)
    assert not waits(prefix)


async def test_a_branch_without_its_root_is_let_go(tmp_path: Path) -> None:
    prefix = str(tmp_path / "parent")
    read, write = os.pipe()
    async with Tasks() as tasks:
        waiting = tasks.start(asyncio.to_thread(_wait_as_a_parent, prefix, "web", read))
        await eventually(lambda: waits(prefix))
        estate = await inherited(prefix, tasks, ManualClock())
        assert estate == Estate()
        await waiting
    os.close(read)
    os.close(write)


async def test_a_socket_of_a_parent_that_died_is_removed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(meeting_place(str(tmp_path / "parent"), os.getpid()))
    async with Tasks() as tasks:
        assert await inherited(str(tmp_path / "parent"), tasks, ManualClock()) == Estate()
    assert not waits(str(tmp_path / "parent"))
