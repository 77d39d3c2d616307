"""One declaration, five policies: what they have in common."""

import math

import pytest

from seawall.scaling.controller import (
    CONTROLLERS,
    Bounds,
    Controller,
    Look,
    SurgeController,
    Target,
)

ORDERS = Target("orders_open", 50.0)
BOUNDS = Bounds(minimum=1, maximum=8)


def looked(controller: Controller, look: Look, times: int, begin: float = 0.0) -> int:
    """The replicas after that many looks, each of which is carried out at once."""
    replicas = look.replicas
    for number in range(times):
        now = begin + number * controller.every
        replicas = controller.look(Look(replicas, replicas, look.totals), now).desired
    return replicas


@pytest.mark.parametrize("policy", sorted(CONTROLLERS))
def test_each_policy_comes_to_what_the_total_asks_for(policy: str) -> None:
    controller = CONTROLLERS[policy]([ORDERS], BOUNDS)
    if policy == "tracking":  # its figure is what each replica has
        assert controller.look(Look(2, 2, (200.0,)), 0.0).desired == 2
        assert [controller.look(Look(2, 2, (200.0,)), t).desired for t in (60.0, 120.0)] == [2, 4]
    else:
        assert looked(controller, Look(1, 1, (200.0,)), 40) == 4


@pytest.mark.parametrize("total", [None, math.nan, math.inf, -1.0])
@pytest.mark.parametrize("policy", sorted(CONTROLLERS))
def test_what_is_missing_or_absurd_changes_nothing(policy: str, total: float | None) -> None:
    controller = CONTROLLERS[policy]([ORDERS], BOUNDS)
    assert looked(controller, Look(4, 4, (total,)), 30) == 4


@pytest.mark.parametrize("policy", sorted(CONTROLLERS))
def test_no_policy_leaves_its_bounds(policy: str) -> None:
    controller = CONTROLLERS[policy]([ORDERS], BOUNDS)
    assert looked(controller, Look(1, 1, (1e9,)), 100) == 8
    assert looked(controller, Look(8, 8, (0.0,)), 1000, begin=10_000.0) == 1


@pytest.mark.parametrize("policy", ["surge", "hpa", "keda", "tracking"])
def test_of_several_figures_the_one_that_wants_most_is_heard(policy: str) -> None:
    controller = CONTROLLERS[policy]([ORDERS, Target("queue", 10.0)], BOUNDS)
    assert looked(controller, Look(4, 4, (10.0, 80.0)), 10) == 8


@pytest.mark.parametrize("policy", ["surge", "keda", "kpa"])
def test_a_minimum_of_zero_is_reached_and_left(policy: str) -> None:
    controller = CONTROLLERS[policy]([ORDERS], Bounds(minimum=0, maximum=8, window=30.0))
    assert looked(controller, Look(1, 1, (20.0,)), 5) == 1
    assert looked(controller, Look(1, 1, (0.0,)), 200, begin=1000.0) == 0
    assert looked(controller, Look(0, 0, (20.0,)), 3, begin=9000.0) == 1


def test_glances_bring_more_at_once_and_put_off_no_step_in() -> None:
    controller = SurgeController([ORDERS], Bounds(minimum=1, maximum=8, window=10.0))
    replicas, now, seen = 1, 0.0, []
    for offered in (*[200.0] * 4, *[0.0] * 240):  # a second each
        for _ in range(3):
            now += 0.25
            look = Look(replicas, replicas, (offered,))
            glanced = controller.glance(look, now, over=0.25).desired
            replicas = max(replicas, glanced)
        now += 0.25
        replicas = controller.look(Look(replicas, replicas, (offered,)), now).desired
        seen.append(replicas)
    assert seen[0] == 4
    assert seen[-1] == 1


def test_a_glance_at_a_part_of_a_step_does_not_hide_the_rest() -> None:
    controller = SurgeController([ORDERS], BOUNDS)
    for second in range(10):
        controller.look(Look(1, 1, (30.0,)), float(second))
    part, rest = Look(1, 1, (140.0,)), Look(3, 1, (300.0,))
    assert controller.hurries(part)
    assert controller.glance(part, 9.5, over=0.25).desired == 3
    assert controller.glance(rest, 9.6, over=0.25).desired == 6
    assert not controller.hurries(Look(6, 6, (300.0,)))


def test_of_a_shorter_time_more_is_chance() -> None:
    controller = SurgeController([ORDERS], BOUNDS)
    for second in range(10):
        controller.look(Look(1, 1, (30.0,)), float(second))
    crowd = Look(1, 1, (120.0,))
    assert controller.glance(crowd, 9.9, over=0.05).desired == 1
    assert controller.glance(crowd, 9.9, over=0.25).desired == 3
