import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.resilience.adaptive import (
    Aimd,
    AimdConfig,
    ConcurrencyLimit,
    Fixed,
    Gradient2,
    Gradient2Config,
    Vegas,
    VegasConfig,
    WarmAverage,
)

UPSTREAM = json.loads((Path(__file__).parent / "data" / "concurrency_limits.json").read_text())


def cases(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=case["name"]) for case in UPSTREAM[name]]
    )


def run(limit: ConcurrencyLimit, steps: list[tuple[float, int, bool, int]]) -> None:
    for seconds, in_flight, dropped, after in steps:
        assert limit.sample(seconds, in_flight, dropped) == after
        assert limit.limit == after


@cases("aimd")
def test_aimd_does_what_upstream_does(case: dict[str, Any]) -> None:
    run(Aimd(AimdConfig(**case["config"])), case["steps"])


@cases("vegas")
def test_vegas_does_what_upstream_does(case: dict[str, Any]) -> None:
    decrease = (lambda limit: limit / 2) if case.get("halves") else None
    run(Vegas(Random(1), VegasConfig(**case["config"], decrease=decrease)), case["steps"])


def test_the_long_average_does_what_upstream_does() -> None:
    case = UPSTREAM["warm_average"]
    average = WarmAverage(case["window"], case["warm_up"])
    values = [average.add(sample) for sample in case["samples"]]
    assert values == pytest.approx(case["values"], abs=0.1)
    assert average.value == values[-1]


def test_fixed_is_fixed() -> None:
    limit = Fixed(7)
    assert limit.sample(99.0, 99, True) == limit.limit == 7


def test_aimd_takes_a_slow_call_for_a_drop_and_an_idle_caller_for_no_news() -> None:
    limit = Aimd(AimdConfig(initial=100))
    assert limit.sample(5.0, 50, False) == 101
    assert limit.sample(5.1, 50, False) == 90
    assert limit.sample(0.1, 44, False) == 90


def test_vegas_measures_the_fastest_answer_anew() -> None:
    # 30 * 20 samples at most, then the slow ones are what it compares with, and it grows again.
    limit = Vegas(Random(1))
    limit.sample(0.010, 20, False)
    for _ in range(10):
        limit.sample(0.040, 20, False)
    assert limit.limit < 20
    for _ in range(600):
        limit.sample(0.040, 200, False)
    assert limit.limit > 20


def test_vegas_shrinks_at_a_drop_even_if_idle() -> None:
    limit = Vegas(Random(1), VegasConfig(initial=100))
    limit.sample(0.010, 1, False)
    assert limit.sample(0.010, 1, False) == 100
    assert limit.sample(0.010, 1, True) == 98


def test_gradient2_grows_by_a_part_of_its_queue_while_nothing_waits() -> None:
    limit = Gradient2()
    # 20 * 0.8 + 0.2 * (20 + 4), and so on.
    assert [limit.sample(0.010, 20, False) for _ in range(5)] == [20, 21, 22, 23, 24]


def test_gradient2_shrinks_by_at_most_a_tenth_at_once_and_never_below_its_minimum() -> None:
    limit = Gradient2(Gradient2Config(initial=100))
    for _ in range(10):
        limit.sample(0.010, 10, False)
    # long average 0.0133..: gradient 0.5, so 100 * 0.8 + 0.2 * (100 * 0.5 + 4)
    assert limit.sample(1.0, 100, False) == 90
    for _ in range(30):
        limit.sample(10.0, 100, False)
    assert limit.limit >= 20


def test_gradient2_leaves_an_idle_caller_alone() -> None:
    limit = Gradient2(Gradient2Config(initial=100))
    assert limit.sample(0.010, 49, False) == 100
    assert limit.sample(0.010, 50, False) == 100 + int(0.2 * 4)


def test_gradient2_forgets_an_overload_faster_than_its_average() -> None:
    limit = Gradient2()
    for _ in range(10):
        limit.sample(1.0, 1, False)
    for _ in range(60):
        limit.sample(0.010, 1, False)
    assert limit._long.value < 0.1


SAMPLES = st.lists(
    st.tuples(st.floats(1e-6, 60.0), st.integers(0, 500), st.booleans()), max_size=60
)


@given(samples=SAMPLES, which=st.sampled_from(["aimd", "vegas", "gradient2"]))
def test_no_limit_leaves_its_bounds(samples: list[tuple[float, int, bool]], which: str) -> None:
    limit: ConcurrencyLimit
    lowest, highest = 10, 50
    match which:
        case "aimd":
            limit = Aimd(AimdConfig(minimum=lowest, maximum=highest))
        case "vegas":
            limit = Vegas(Random(1), VegasConfig(minimum=lowest, maximum=highest))
        case _:
            limit = Gradient2(Gradient2Config(minimum=lowest, maximum=highest))
    for seconds, in_flight, dropped in samples:
        assert lowest <= limit.sample(seconds, in_flight, dropped) <= highest
        assert lowest <= limit.limit <= highest


@pytest.mark.parametrize("kind", ["vegas", "gradient2"])
def test_settles_near_what_a_server_can_do(kind: str) -> None:
    """A server of 100 places that takes 10 ms: the limit ends near 100, from either side."""
    for initial in (20, 400):
        limit: ConcurrencyLimit = (
            Vegas(Random(1), VegasConfig(initial=initial))
            if kind == "vegas"
            else Gradient2(Gradient2Config(initial=initial, maximum=500, long_window=10_000))
        )
        limit.sample(0.010, 1, False)
        for _ in range(9):
            limit.sample(0.010, 1, False)
        for _ in range(400):
            waiting = max(1.0, limit.limit / 100)
            limit.sample(0.010 * waiting, limit.limit, False)
        assert 90 <= limit.limit <= 200


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fixed(0),
        lambda: AimdConfig(backoff=0.4),
        lambda: AimdConfig(initial=0),
        lambda: VegasConfig(smoothing=0),
        lambda: VegasConfig(minimum=0),
        lambda: Gradient2Config(minimum=50, maximum=40),
        lambda: Gradient2Config(smoothing=2),
        lambda: Gradient2Config(tolerance=0.9),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(Misconfigured):
        make()
