import pytest

from shop.demo.scaling import Change, scaling


def told(*changes: tuple[float, int, int]) -> dict[str, object]:
    rows = [{"at": at, "was": w, "desired": d, "reason": "load"} for at, w, d in changes]
    looks = [{"at": 5.0, "proposed": n, "reason": f"wants {n}"} for n in (None, 3, 2)]
    named = {"service": "orders", "replicas": 2, "maximum": 4}
    return {**named, "changes": rows, "decisions": looks}


def test_a_fleet_costs_what_it_had_over_time() -> None:
    scaled = scaling(told((50.0, 2, 9), (1010.0, 2, 4), (1020.0, 4, 2)), 1000.0, 1040.0)
    assert scaled.changes == (Change(10.0, 2, 4, "load"), Change(20.0, 4, 2, "load"))
    assert scaled.peak == 4
    assert scaled.hours * 3600 == 2 * 10 + 4 * 10 + 2 * 20
    assert scaled.fixed_hours * 3600 == 4 * 40
    assert scaled.saved == pytest.approx(0.375)
    assert scaled.busiest == "nobody looked"


def test_a_fleet_that_never_changed_costs_what_it_has() -> None:
    scaled = scaling(told(), 0.0, 10.0)
    assert (scaled.changes, scaled.peak, scaled.saved) == ((), 2, 0.5)
    assert scaled.busiest == "wants 3"
