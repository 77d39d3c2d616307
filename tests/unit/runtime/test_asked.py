"""Which questions a service is asked."""

import pytest
from pydantic import ValidationError

from seawall.runtime.asked import Asked
from seawall.spec.project import ServiceSpec


def asked(**spec: object) -> Asked:
    return Asked(ServiceSpec.model_validate(spec), ".")


def test_without_a_word_readiness_is_asked_and_a_loop_of_ours_must_turn() -> None:
    ours, foreign = asked(module="a:b", start_within=7), asked(command=["x"])
    assert ours.startup is None is foreign.startup
    assert (ours.readiness.period, foreign.readiness.period) == (5.0, 1.0)
    assert ours.liveness is not None
    assert ours.liveness.initial_delay == 7.0
    assert foreign.liveness is None


def test_what_is_declared_has_the_defaults_of_kubernetes() -> None:
    probes = {"startup": {"exec": ["true"]}, "readiness": {}, "liveness": {"tcp": True}}
    found = asked(command=["x"], probes=probes)
    for config in (found.startup, found.readiness, found.liveness):
        assert config is not None
        assert (config.initial_delay, config.period) == (0.0, 10.0)
        assert (config.success_threshold, config.failure_threshold) == (1, 3)


@pytest.mark.parametrize(
    ("probes", "reason"),
    [
        ({"liveness": {"tcp": True, "path": "/livez"}}, "one of path, tcp and exec"),
        ({"liveness": {"period": 1}}, "of a command needs one of path, tcp and exec"),
        ({"liveness": {"tcp": True, "success_threshold": 2}}, "is always 1, as on Kubernetes"),
        ({"readiness": {"path": "ready"}}, "does not start with /"),
        ({"readiness": {"exec": []}}, "exec is a command"),
        ({"readiness": {"period": 0}}, "greater than or equal to 0.1"),
    ],
)
def test_what_is_wrong_is_told(probes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        asked(command=["x"], probes=probes)
