import pytest

from seawall.messaging.base import Lag
from seawall.runtime.autoscaler_figures import Figures, Heard, Series, busy, held_by, series
from seawall.spec.scaling import ScaleSpec

SERVED = "http_server_request_duration_seconds_count"


def served(count: float, labels: str = "") -> Series:
    return {SERVED: [(labels, count)]}


def heard(replicas: dict[str, Series] | None = None, **more: object) -> Heard:
    parts: dict[str, object] = {"ready": 2, "replicas": replicas or {}, "gateways": {}, **more}
    return Heard(service="orders", **parts)  # type: ignore[arg-type]


def figures(metric: str, **more: object) -> Figures:
    return Figures([ScaleSpec.model_validate({"metric": metric, "target": 1, **more})])


def test_only_what_is_asked_for_is_read() -> None:
    text = '# TYPE a gauge\na 1\na{x="} y 2"} 3 1700000000\nab 4\na{broken\na nonsense\nb 5.5\n'
    assert series(text, {"a", "b"}) == {"a": [("", 1.0), ('{x="} y 2"}', 3.0)], "b": [("", 5.5)]}


def test_what_is_shed_is_added_up_and_is_among_what_is_offered() -> None:
    one = figures("requests")
    shed = {"seawall_load_shed_total": [('{reason="admission",service="orders"}', 30.0)]}
    before = {"seawall_gateway_shed_total": [('{service="orders",importance="normal"}', 10.0)]}

    def look(replica: Series, gateway: Series, now: float) -> float | None:
        said = heard({"orders-1": replica}, gateways={"gateway-1": gateway})
        return one.shed(said, now)

    assert look({}, {}, 0.0) is None
    assert look(shed, before, 2.0) == 20.0
    assert look(shed, before, 4.0) == 0.0


def test_offered_is_what_the_gateways_or_the_replicas_saw_whoever_saw_more() -> None:
    mine, other = '{http_route="/",service="orders"}', '{http_route="/",service="users"}'
    one = figures("requests")

    def look(replica: float, gateway: float, now: float) -> float | None:
        at_gateway = {SERVED: [(mine, gateway), (other, 1000 * gateway)]}
        said = heard({"orders-1": served(replica)}, gateways={"gateway-1": at_gateway})
        return one.totals(said, now)[0]

    assert look(100, 50, 0.0) is None  # a first look knows no rate
    assert look(120, 150, 2.0) == 50.0  # the gateway shed most of it
    assert look(220, 170, 4.0) == 50.0  # most came from other services


def test_what_waits_is_offered_already() -> None:
    one = figures("requests")

    def look(ended: float, under_way: float, now: float) -> float | None:
        at_gateway = {
            SERVED: [('{service="orders"}', ended)],
            "seawall_gateway_upstream_requests": [
                ('{service="orders",version=""}', under_way),
                ('{service="users",version=""}', 1000 * under_way),
            ],
        }
        return one.totals(heard({}, gateways={"gateway-1": at_gateway}), now)[0]

    assert look(100, 3, 0.0) is None
    assert look(130, 3, 1.0) == 30.0  # as many came as ended
    assert look(150, 143, 1.5) == 320.0  # most of what came waits
    assert look(230, 143, 2.5) == 80.0
    assert look(300, 3, 3.5) == 0.0  # callers gave up, and came before
    assert look(10, 0, 4.5) == 7.0  # another process counts from zero


def test_a_process_that_began_anew_counts_from_zero_and_a_new_one_from_its_second_look() -> None:
    one = figures("requests")
    one.totals(heard({"orders-1": served(1000)}), 0.0)
    assert one.totals(heard({"orders-1": served(10)}), 1.0) == (10.0,)
    both = {"orders-1": served(20), "orders-2": served(5000)}
    assert one.totals(heard(both), 2.0) == (10.0,)


def test_a_metric_of_its_own_is_summed_or_the_same_of_all_or_a_rate() -> None:
    def told(name: str, *values: float) -> dict[str, Series]:
        return {f"orders-{n}": {name: [("", v)]} for n, v in enumerate(values)}

    assert figures("orders_open").totals(heard(told("orders_open", 3, 4)), 0.0) == (7.0,)
    shared = figures("orders_open", across="max")
    assert shared.totals(heard(told("orders_open", 7, 7)), 0.0) == (7.0,)
    counter = figures("orders_placed_total")
    assert counter.totals(heard(told("orders_placed_total", 3, 4)), 0.0) == (None,)
    assert counter.totals(heard(told("orders_placed_total", 13, 14)), 10.0) == (2.0,)


def test_a_queue_is_what_waits_and_what_is_being_handled() -> None:
    lags = {"a": [Lag(3, 2, 9, 9, oldest_age=4.0)], "b": [Lag(10, 0, 0, 0, oldest_age=1.0)]}
    assert figures("queue").totals(heard(lags=lags), 0.0) == (15.0,)
    assert figures("queue", topic="a").totals(heard(lags=lags), 0.0) == (5.0,)
    assert figures("age").totals(heard(lags=lags), 0.0) == (8.0,)  # 4 s at each of two


@pytest.mark.parametrize("metric", ["requests", "in_flight", "cpu", "memory", "orders_open"])
def test_what_nobody_told_is_not_known(metric: str) -> None:
    told = heard() if metric != "requests" else heard({"orders-1": served(1)})
    assert figures(metric).totals(told, 0.0) == (None,)


def test_no_answer_of_the_broker_is_no_empty_queue() -> None:
    assert figures("queue").totals(heard(), 0.0) == (None,)
    assert figures("queue", topic="new").totals(heard(lags={"a": []}), 0.0) == (None,)


def test_cpu_is_per_cent_of_a_core_and_memory_megabytes() -> None:
    said = heard(cpu=1.25, memory=80_000_000)
    assert figures("cpu").totals(said, 0.0) == (125.0,)
    assert figures("memory").totals(said, 0.0) == (80.0,)


def test_how_busy_a_replica_is() -> None:
    told: Series = {
        "seawall_consumer_held": [("", 2.0), ("", 1.0)],
        "http_server_active_requests": [("", 4.0)],
    }
    assert (held_by(told), busy(told)) == (3, 7)
