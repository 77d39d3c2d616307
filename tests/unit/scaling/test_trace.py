import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.scaling.trace import SHAPES, Trace, parse


def test_counts_of_a_minute_become_rates() -> None:
    trace = parse("t.csv", "minute,requests\n0,60\n1,120\n")
    assert trace == Trace("t.csv", 60.0, (1.0, 2.0))
    assert trace.seconds == 120.0


def test_between_two_rows_the_rate_is_between_them() -> None:
    trace = Trace("t", 60.0, (1.0, 2.0))
    assert [trace.rate(at) for at in (0.0, 30.0, 60.0, 90.0, 500.0)] == [1.0, 1.0, 1.5, 2.0, 2.0]


def test_a_part_and_a_multiple() -> None:
    trace = Trace("t", 60.0, (1.0, 2.0, 3.0))
    assert trace.part(60.0, 61.0).rates == (2.0, 3.0)
    assert trace.scaled(2.0).rates == (2.0, 4.0, 6.0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begins with"),
        ("day,requests\n0,1\n", "begins with"),
        ("minute\n0\n", "begins with"),
        ("minute,requests\n", "no load"),
        ("minute,requests\n0\n", "line 2"),
        ("minute,requests\n0,1\n1,many\n", "line 3"),
        ("minute,requests\n0,-1\n", "no count"),
        ("minute,requests\n0,nan\n", "no count"),
        ("minute,requests\n0,inf\n", "no count"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(text: str, why: str) -> None:
    with pytest.raises(Misconfigured, match=why):
        parse("t.csv", text)


def test_a_trace_ends_after_a_year() -> None:
    with pytest.raises(Misconfigured, match="longer than a year"):
        parse("t.csv", "hour,n\n" + "0,1\n" * (366 * 24 + 2))


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=20, deadline=None)
@given(base=st.floats(0.1, 1000), factor=st.floats(1, 20))
def test_shapes_stay_between_nothing_and_their_factor(
    name: str, base: float, factor: float
) -> None:
    trace = SHAPES[name](base, factor, 1200.0)
    assert len(trace.rates) == 1200
    assert all(0 <= rate <= base * factor * 1.001 for rate in trace.rates)
    assert max(trace.rates) > base * factor * 0.9


def test_a_step_is_where_it_is_said_to_be() -> None:
    trace = SHAPES["step"](10.0, 10.0, 1200.0)
    assert (trace.rate(299.0), trace.rate(301.0), trace.rate(899.0), trace.rate(901.0)) == (
        *(10.0, 100.0, 100.0, 10.0),
    )


@pytest.mark.parametrize("seconds", [0.0, 1e12])
def test_a_shape_is_a_second_at_least_and_a_year_at_most(seconds: float) -> None:
    with pytest.raises(Misconfigured):
        SHAPES["ramp"](10.0, 10.0, seconds)
