from pathlib import Path

import pytest

from seawall.errors import Misconfigured
from seawall.runtime.canary_routes import Trial, check, read, with_trials, write
from seawall.runtime.gateway_config import gateway_config
from seawall.spec.project import Spec

TRIAL = Trial("1.3.0-canary", 0.125)


def spec(*routes: dict[str, object]) -> Spec:
    services = {name: {"module": f"{name}:service"} for name in ("orders", "users")}
    return Spec.model_validate({"services": services, "gateway": {"routes": list(routes)}})


def test_routes_to_the_service_split_and_others_stay() -> None:
    before = spec(
        {"path": "/orders", "service": "orders", "version": "^1", "priority": "critical"},
        {"path": "/users", "service": "users"},
    )
    config = gateway_config(with_trials(before, {"orders": TRIAL}).gateway)
    (orders, users) = config.routes
    assert orders.split is not None
    assert [(arm.label, str(arm.version), arm.weight) for arm in orders.split.arms] == [
        ("stable", "^1", 875),
        ("canary", "1.3.0-canary", 125),
    ]
    assert orders.importance.value == "critical"
    assert (users.service, users.split) == ("users", None)
    assert with_trials(before, {}) is before


@pytest.mark.parametrize(("share", "weight"), [(0.0001, 1), (0.9999, 999)])
def test_each_side_has_something(share: float, weight: int) -> None:
    trial = {"orders": Trial("1.0.0-canary", share)}
    (route,) = with_trials(spec({"path": "/", "service": "orders"}), trial).gateway.routes
    assert route.split is not None
    assert route.split.arms[1].weight == weight


def test_it_is_kept_in_a_file_while_there_is_something(tmp_path: Path) -> None:
    path = tmp_path / "canaries.json"
    assert read(path) == {}
    write(path, {"orders": TRIAL})
    assert read(path) == {"orders": TRIAL}
    write(path, {})
    assert not path.exists()
    write(path, {})
    for text in ("{", "[1]", '{"orders": {"weight": 1}}'):
        path.write_text(text)
        with pytest.raises(Misconfigured):
            read(path)


def test_a_service_of_which_no_route_could_share_out_requests_is_refused() -> None:
    check(spec({"path": "/", "service": "orders"}), "orders")
    with pytest.raises(Misconfigured, match="no route of the gateway leads to users"):
        check(spec({"path": "/", "service": "orders"}), "users")
    split = [{"service": "orders", "weight": 1}]
    with pytest.raises(Misconfigured, match="split their requests already"):
        check(spec({"path": "/", "split": split}), "orders")
