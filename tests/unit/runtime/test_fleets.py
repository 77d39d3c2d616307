from seawall.runtime.fleets import holding_up

NEEDS = {"orders": ["inventory", "payments"], "payments": ["users"], "inventory": []}


def test_who_waits_for_others_is_not_to_blame() -> None:
    assert holding_up(NEEDS, {"orders", "payments", "users"}) == ["users"]
    assert holding_up(NEEDS, {"orders", "inventory", "users"}) == ["inventory", "users"]
    assert holding_up(NEEDS, {"orders"}) == ["orders"]
    assert holding_up(NEEDS, set()) == []


def test_a_cycle_names_all_of_it() -> None:
    assert holding_up({"a": ["b"], "b": ["a"]}, {"a", "b"}) == ["a", "b"]
