from seawall.runtime.fleet import leaving

NAMES = ["orders-1", "orders-2", "orders-3"]


def test_the_least_busy_goes_first() -> None:
    assert leaving(NAMES, 1, {"orders-1": 0, "orders-2": 5, "orders-3": 2}) == ["orders-1"]
    busy = {"orders-1": 4, "orders-2": 5, "orders-3": 2}
    assert leaving(NAMES, 2, busy) == ["orders-3", "orders-1"]


def test_of_equals_the_highest_number_goes() -> None:
    assert leaving(NAMES, 2, {}) == ["orders-3", "orders-2"]
    assert leaving(NAMES, 0, {}) == []
