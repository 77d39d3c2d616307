from seawall.messaging.base import Lag
from seawall.runtime.autoscaler_figures import Heard, Series
from seawall.runtime.metrics_known import Known
from seawall.spec.scaling import ScaleSpec


def scale(metric: str) -> ScaleSpec:
    return ScaleSpec(metric=metric, target=1)


def heard(ready: int, **replicas: float) -> Heard:
    told: dict[str, Series] = {name: {"jobs_open": [("", n)]} for name, n in replicas.items()}
    return Heard(service="jobs", ready=ready, replicas=told, gateways={})


def total(known: Known, metric: str, now: float) -> float | None:
    value = known.value(metric, now)
    return None if value is None else value.total


def test_figures_are_told_with_each_pods_share_until_they_are_stale() -> None:
    known = Known([scale("jobs_open")], stale=15.0)
    assert known.value("jobs_open", 0.0) is None
    known.note(heard(2, a=3.0, b=4.0), (), 0.0, 100.0)
    value = known.value("jobs_open", 15.0)
    assert value is not None
    assert (value.total, value.at, value.pods) == (7.0, 100.0, {"a": 3.0, "b": 4.0})
    assert known.value("jobs_open", 15.1) is None


def test_who_does_not_answer_does_not_make_it_less() -> None:
    known = Known([scale("jobs_open")], stale=15.0)
    known.note(heard(2, a=3.0, b=4.0), (), 0.0, 0.0)
    known.note(heard(2, a=3.0), {"b"}, 5.0, 0.0)
    assert total(known, "jobs_open", 5.0) == 7.0
    known.note(heard(2, a=9.0), {"b"}, 10.0, 0.0)
    assert total(known, "jobs_open", 10.0) == 9.0  # more is believed
    known.note(heard(2, a=1.0), {"b"}, 61.0, 0.0)
    assert total(known, "jobs_open", 61.0) == 1.0  # not for ever
    known.note(heard(1, a=1.0), (), 62.0, 0.0)
    assert total(known, "jobs_open", 62.0) == 1.0


def test_a_queue_is_the_brokers_to_tell_and_no_pods() -> None:
    known = Known([scale("queue"), scale("age")], stale=15.0)
    lags = {"jobs": [Lag(ready=5, in_flight=2, delayed=9, dead=9, oldest_age=float("nan"))]}
    known.note(Heard("jobs", 0, {}, {}, lags=lags), (), 0.0, 0.0)
    value = known.value("queue", 0.0)
    assert value is not None
    assert (value.total, value.pods) == (7.0, {})
    assert known.value("age", 0.0) is None  # this broker does not tell


def test_a_broker_that_is_away_is_nothing_known() -> None:
    known = Known([scale("queue")], stale=15.0)
    known.note(Heard("jobs", 1, {}, {}, lags=None), (), 0.0, 0.0)
    assert known.value("queue", 0.0) is None
