import pytest

from seawall.errors import Misconfigured
from seawall.resilience.sampling import WindowConfig, Windowed


class Notes:
    """A limit that writes down what it is told."""

    def __init__(self) -> None:
        self.limit = 20
        self.told: list[tuple[float, int, bool]] = []

    def sample(self, seconds: float, in_flight: int, dropped: bool) -> int:
        self.told.append((seconds, in_flight, dropped))
        return self.limit


def test_a_window_is_told_as_its_mean_its_most_and_any_drop() -> None:
    notes = Notes()
    windowed = Windowed(notes)
    windowed.sample(0.5, 99, True, 100.0)  # ends the empty window before it, and counts nowhere
    for number in range(10):
        assert windowed.sample(0.010, number, number == 4, 100.5) is None
    assert windowed.sample(0.021, 3, False, 101.1) == windowed.limit == 20
    ((seconds, in_flight, dropped),) = notes.told
    assert (in_flight, dropped) == (9, True)
    assert seconds == pytest.approx(0.011)


def test_a_window_of_few_answers_says_nothing() -> None:
    notes = Notes()
    windowed = Windowed(notes)
    for number in range(50):
        windowed.sample(0.010, 1, False, 100.0 + 0.2 * number)
    assert notes.told == []


def test_an_answer_too_fast_to_have_done_work_does_not_count() -> None:
    notes = Notes()
    windowed = Windowed(notes)
    for number in range(1000):
        windowed.sample(0.00009, 1, True, 100.0 + 0.01 * number)
    assert notes.told == []


def test_a_window_lasts_twice_its_fastest_answer_within_bounds() -> None:
    notes = Notes()
    windowed = Windowed(notes, WindowConfig(shortest=0.1, longest=1.0))
    windowed.sample(0.3, 1, False, 0.0)
    for _ in range(10):
        windowed.sample(0.3, 1, False, 0.5)
    assert notes.told == []
    windowed.sample(0.3, 1, False, 0.61)
    assert len(notes.told) == 1
    assert repr(windowed) == "<Windowed Notes 20>"


@pytest.mark.parametrize("config", [{"shortest": 0.05}, {"shortest": 2.0}, {"samples": 9}], ids=str)
def test_a_window_that_makes_no_sense_is_refused(config: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        WindowConfig(**config)  # type: ignore[arg-type]
