"""Memory limits, on processes that are there."""

import os

import pytest

from seawall.concurrency.tasks import Tasks, running
from seawall.runtime.memory_limits import MemoryLimits, ReplicaTooLarge, tree_memory
from seawall.runtime.narration import tell
from seawall.spec.sizes import in_bytes
from tests.support.waiting import eventually
from tests.unit.runtime.test_fleet import Recipe, running_fleet
from tests.unit.runtime.test_replica import World


def test_memory_is_told_only_above_the_limit() -> None:
    assert tree_memory(os.getpid(), 0) > 1_000_000
    assert tree_memory(os.getpid(), 10**15) == 0
    assert tree_memory(2**30, 0) == 0  # nobody


async def test_what_is_too_large_is_replaced_when_it_is_not_young_any_more() -> None:
    world = World()
    recipe = Recipe(world)
    recipe.first_pid = os.getpid()
    async with running_fleet(recipe, 1) as fleet, Tasks() as tasks:
        limits = MemoryLimits(
            {"web": fleet}, {"web": 1}, tasks, observer=world.facts.append, clock=world.clock
        )
        async with running(limits.run()):
            await eventually(lambda: world.clock.sleeping == 1)
            world.clock.advance(20.0)
            await eventually(lambda: world.clock.sleeping == 1)
            assert not world.said(ReplicaTooLarge)
            world.clock.advance(20.0)
            await eventually(lambda: len(recipe.started) == 2)
            (large,) = world.said(ReplicaTooLarge)
            assert isinstance(large, ReplicaTooLarge)
            assert "of memory and may use 0 MB; replacing it" in tell(large)[0]


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MiB", 512 * 2**20), ("1.5GB", 1_500_000_000), ("64Mi", 2**26), ("7", 7), (9, 9)],
)
def test_sizes(text: object, size: int) -> None:
    assert in_bytes(text) == size


@pytest.mark.parametrize("text", ["much", "12 parsecs", "", "-1MB"])
def test_what_is_no_size_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        in_bytes(text)
