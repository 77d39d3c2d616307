from collections.abc import Mapping

import pytest

from seawall.errors import Misconfigured
from seawall.runtime.label_selector import selector
from seawall.runtime.metrics_questions import Catalog, Desk
from seawall.runtime.metrics_shapes import Body, Value, quantity

CATALOG = Catalog("shop", {"orders": ["requests", "orders_open"], "mails": ["requests", "queue"]})
VALUES = {
    ("orders", "requests"): Value(12.5, 1_700_000_000.9, {"orders-b": 8.0, "orders-a": 4.5}),
    ("mails", "requests"): Value(3.0, 1_700_000_001.0, {"mails-a": 3.0}),
    ("mails", "queue"): Value(7.0, 1_700_000_001.0),
}
DESK = Desk(CATALOG, lambda service, metric: VALUES.get((service, metric)))

EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"


def ask(path: str, query: str = "", status: int = 200) -> Body:
    code, body = DESK.answer(path, query)
    assert code == status, body
    return body


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", {"a", "b", "none"}),
        ("zone=a", {"a"}),
        ("zone == a", {"a"}),
        ("zone!=a", {"b", "none"}),
        ("zone in (a, b)", {"a", "b"}),
        ("zone notin (a),zone", {"b"}),
        ("!zone", {"none"}),
        ("zone,app.kubernetes.io/name=x", {"a"}),
    ],
)
def test_labels_select_as_in_kubernetes(text: str, chosen: set[str]) -> None:
    labelled: Mapping[str, Mapping[str, str]] = {
        "a": {"zone": "a", "app.kubernetes.io/name": "x"},
        "b": {"zone": "b"},
        "none": {},
    }
    holds = selector(text)
    assert {name for name, labels in labelled.items() if holds(labels)} == chosen


@pytest.mark.parametrize("text", ["a=b=c", "a in b", "=b", "a,,b", "a" * 5000])
def test_a_selector_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured):
        selector(text)


def test_keda_gets_a_number_or_an_error() -> None:
    assert ask("/keda/orders/requests") == {"value": 12.5}
    unknown = ask("/keda/orders/orders_open", status=503)  # nothing would scale it in
    assert unknown["reason"] == "ServiceUnavailable"
    assert (
        "declared: orders_open, queue, requests" in ask("/keda/orders/cpu", status=404)["message"]
    )
    assert ask("/keda/nobody/requests", status=404)["kind"] == "Status"


def test_external_metrics_are_of_the_services_that_labels_select() -> None:
    told = ask(f"{EXTERNAL}/namespaces/shop/requests", "labelSelector=service%3Dorders")
    assert told["kind"] == "ExternalMetricValueList"
    assert told["apiVersion"] == "external.metrics.k8s.io/v1beta1"
    assert told["items"] == [
        {
            "metricName": "requests",
            "metricLabels": {"service": "orders"},
            "timestamp": "2023-11-14T22:13:20Z",
            "value": "12500m",
        }
    ]
    assert len(ask(f"{EXTERNAL}/namespaces/shop/requests")["items"]) == 2
    # Of what is not known there is no item, and an autoscaler stays where it is.
    assert ask(f"{EXTERNAL}/namespaces/shop/orders_open")["items"] == []
    assert ask(f"{EXTERNAL}/namespaces/shop/nothing", status=404)["code"] == 404
    assert ask(f"{EXTERNAL}/namespaces/shop/queue", "labelSelector=(", status=400)


def test_custom_metrics_are_of_services_and_pods() -> None:
    place = f"{CUSTOM}/namespaces/shop"
    (one,) = ask(f"{place}/services/orders/requests")["items"]
    assert one["describedObject"] == {
        "kind": "Service",
        "namespace": "shop",
        "name": "orders",
        "apiVersion": "v1",
    }
    assert one["value"] == "12500m"
    query = "labelSelector=app.kubernetes.io/name%3Dorders,app.kubernetes.io/part-of%3Dshop"
    pods = ask(f"{place}/pods/*/requests", query)["items"]
    assert [(p["describedObject"]["name"], p["value"]) for p in pods] == [
        ("orders-a", "4500m"),
        ("orders-b", "8"),
    ]
    (single,) = ask(f"{place}/pods/mails-a/requests")["items"]
    assert single["metric"] == {"name": "requests"}
    assert ask(f"{place}/pods/*/queue")["items"] == []  # is no single pod's
    assert ask(f"{place}/nodes/a/requests", status=404)


def test_discovery_lists_what_may_be_asked() -> None:
    listed = ask(EXTERNAL)
    assert listed["groupVersion"] == "external.metrics.k8s.io/v1beta1"
    assert [r["name"] for r in listed["resources"]] == ["orders_open", "queue", "requests"]
    assert {r["name"] for r in ask(CUSTOM)["resources"]} >= {"pods/requests", "services/queue"}
    assert ask("/readyz") == {"status": "ok"}
    assert ask("/metrics", status=404)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (7, "7"), (0.1, "100m"), (12.5, "12500m"), (1e-6, "1m")]
)
def test_quantities_are_thousandths_rounded_up(value: float, text: str) -> None:
    assert quantity(value) == text
