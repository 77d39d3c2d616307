"""What `/metrics` says: its names, types and labels are a contract with dashboards and alerts."""

import re
from pathlib import Path

import httpx2
import pytest
from fastapi import Response
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from seawall import Reject, RetryPolicy, Service
from seawall.clock import SYSTEM
from seawall.messaging.tables import outbox
from seawall.resilience.retry import RetryConfig
from seawall.service.calls import ClientConfig
from seawall.service.gauges import WITHIN
from seawall.testing.platform import Platform
from tests.support import servers

HTTP = {"http_request_method", "http_response_status_code", "service"}
CALL = {"caller", "callee"}
QUEUE = {"queue", "group"}
TOPIC = "messaging_destination_name"

NAMES: dict[str, tuple[str, set[str]]] = {
    "http_server_request_duration_seconds": ("histogram", {*HTTP, "http_route"}),
    "http_server_active_requests": ("gauge", {"service"}),
    "http_client_request_duration_seconds": ("histogram", {*HTTP, "server_address", "error_type"}),
    "messaging_client_sent_messages": ("counter", {TOPIC, "outcome"}),
    "messaging_client_operation_duration_seconds": (
        "histogram",
        {TOPIC, "messaging_operation_name"},
    ),
    "messaging_client_consumed_messages": (
        "counter",
        {TOPIC, "messaging_consumer_group_name", "outcome"},
    ),
    "messaging_process_duration_seconds": (
        "histogram",
        {TOPIC, "messaging_consumer_group_name", "error_type", "messaging_system", "service"},
    ),
    "seawall_queue_depth": ("gauge", QUEUE),
    "seawall_queue_delayed": ("gauge", QUEUE),
    "seawall_queue_inflight": ("gauge", QUEUE),
    "seawall_queue_oldest_age_seconds": ("gauge", QUEUE),
    "seawall_queue_redeliveries": ("counter", QUEUE),
    "seawall_dlq_depth": ("gauge", QUEUE),
    "seawall_queue_paused": ("gauge", QUEUE),
    "seawall_consumer_held": ("gauge", QUEUE),
    "seawall_consumer_paused": ("gauge", QUEUE),
    "seawall_consumer_stalled": ("gauge", QUEUE),
    "seawall_breaker_state": ("gauge", CALL),
    "seawall_breaker_transitions": ("counter", {*CALL, "to"}),
    "seawall_retries": ("counter", {*CALL, "outcome"}),
    "seawall_retry_budget_ratio": ("gauge", CALL),
    "seawall_load_shed": ("counter", {"service", "reason"}),
    "seawall_registry_instances": ("gauge", {"service", "state"}),
    "seawall_registry_staleness_seconds": ("gauge", {"service"}),
    "seawall_lb_picks": ("counter", {*CALL, "instance"}),
    "seawall_event_loop_lag_seconds": ("gauge", {"service"}),
    "seawall_telemetry_dropped": ("counter", {"signal", "reason"}),
    "seawall_build_info": ("gauge", {"service", "version", "python", "commit"}),
}

# Nothing happens here that they count.
QUIET = {
    "seawall_outlier_ejections",
    "seawall_consumer_pauses",
    "seawall_consumer_stalls",
    "seawall_peers_refused",
    "seawall_replies_dropped",
    "seawall_schedule_ticks",
    # The service below has no database.
    "seawall_outbox_unsent",
    "seawall_outbox_refused",
    "seawall_outbox_oldest_age_seconds",
}


async def scrape(system: Platform, name: str) -> dict[str, Metric]:
    async with httpx2.AsyncClient(base_url=system.url(name), timeout=30) as http:
        text = (await http.get("/metrics")).text
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    found = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and sample.labels.items() >= labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


@pytest.fixture
async def busy(system: Platform) -> Platform:
    """A service that has served, called, failed, shed, published, retried and given up."""
    stock = Service("stock")

    @stock.get("/fails")
    async def fails() -> Response:
        return Response(status_code=502)  # says nothing about whether it may be asked again

    orders = Service("orders", version="1.2.3")
    config = ClientConfig(retry=RetryConfig(attempts=2, base=0.0))
    inventory = orders.client("stock", config=config)

    @orders.get("/calls/{number}")
    async def calls(number: int) -> None:
        await inventory.get("/fails", fallback=lambda error: None)

    @orders.worker("jobs", retry=RetryPolicy(attempts=2, immediate=1))
    async def jobs(job: int) -> None:
        if job == 0:
            raise Reject("no such job")
        if job < 0:
            raise RuntimeError("always fails")

    await system.start(stock, orders)
    async with httpx2.AsyncClient(base_url=system.url("orders"), timeout=30) as http:
        for number in range(6):
            assert (await http.get(f"/calls/{number}")).status_code == 200
        await http.get("/calls/1", headers={"x-deadline-ms": "0"})
    for job in (1, 0, -1):
        await orders.send("jobs", job)
    await system.settle()
    return system


async def test_names_types_labels_and_help_are_those_promised(busy: Platform) -> None:
    families = await scrape(busy, "orders")
    for name, (kind, labels) in NAMES.items():
        family = families[name]
        assert family.type == kind, name
        assert family.samples, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, name
    own = {name for name in families if name.startswith(("http_", "messaging_", "seawall_"))}
    assert own == NAMES.keys() | QUIET  # a new one belongs into the table, and the documentation
    for name, family in families.items():
        assert family.documentation, name
        assert not re.search(r"_(ms|millis|milliseconds|kb|mb|percent)$", name)


async def test_the_documentation_names_every_metric() -> None:
    page = (Path(__file__).parents[3] / "docs" / "telemetry.md").read_text()
    told = set(re.findall(r"`((?:http|messaging|seawall)_[a-z_]+?)(?:_total)?`", page))
    assert told >= NAMES.keys() | QUIET


async def test_the_numbers_are_those_of_what_happened(busy: Platform) -> None:
    families = await scrape(busy, "orders")
    call = {"caller": "orders", "callee": "stock"}
    jobs = {"queue": "jobs", "group": "workers"}
    made = value(families, "seawall_lb_picks_total", **call, instance="stock-1")
    retried = value(families, "seawall_retries_total", **call, outcome="retried")
    assert made >= 5  # until the instance's breaker opens
    assert retried >= 1
    one = {**call, "callee": "stock/stock-1"}
    assert value(families, "seawall_breaker_state", **call) == 0
    assert value(families, "seawall_breaker_state", **one) == 1
    assert value(families, "seawall_breaker_transitions_total", **one, to="open") == 1
    assert 0 < value(families, "seawall_retry_budget_ratio", **call) < 1
    assert value(families, "seawall_load_shed_total", reason="deadline") == 1
    assert value(families, "seawall_registry_instances", service="stock", state="ready") == 1
    assert value(families, "seawall_registry_instances", service="stock", state="draining") == 0
    assert value(families, "seawall_queue_depth", **jobs) == 0
    assert value(families, "seawall_queue_redeliveries_total", **jobs) == 1
    assert value(families, "seawall_dlq_depth", **jobs) == 2
    sent = {TOPIC: "jobs", "outcome": "ok"}
    assert value(families, "messaging_client_sent_messages_total", **sent) == 3
    assert value(families, "seawall_build_info", version="1.2.3") == 1


async def test_a_broker_that_is_away_does_not_hold_up_a_scrape() -> None:
    server = servers.valkey()
    try:
        async with Platform(messages=server.url) as system:
            service = Service("orders")

            @service.worker("jobs")
            async def jobs(job: int) -> None: ...

            await system.start(service)
            assert value(await scrape(system, "orders"), "seawall_queue_depth", queue="jobs") == 0
            server.pause()
            slowest, gone = 0.0, False
            until = SYSTEM.now() + 20.0
            while not gone and SYSTEM.now() < until:
                began = SYSTEM.now()
                families = await scrape(system, "orders")
                slowest = max(slowest, SYSTEM.now() - began)
                gone = not families["seawall_queue_depth"].samples
            server.resume()
            assert gone  # no number is shown that is older than the outage
            assert slowest < WITHIN + 5.0
            assert value(families, "http_server_active_requests") == 0
    finally:
        server.stop()


async def test_an_outbox_that_does_not_flow_is_seen(system: Platform) -> None:
    orders = Service("orders")
    database = orders.database()
    await system.start(orders)
    now = SYSTEM.wall()
    row = {"message_id": "m", "topic": "t", "headers": "{}", "body": b"", "created": now}
    async with database.transaction() as tx:
        claimed = {"claimed_by": "somebody", "claimed_until": now + 60}
        await tx.execute(outbox.insert().values(**row, **claimed, not_before=now - 90))
        await tx.execute(outbox.insert().values(**row, not_before=now, refused="too large"))
    families = await scrape(system, "orders")
    assert value(families, "seawall_outbox_unsent") == 1
    assert value(families, "seawall_outbox_refused") == 1
    assert value(families, "seawall_outbox_oldest_age_seconds") >= 90
    async with httpx2.AsyncClient(base_url=system.url("orders"), timeout=30) as http:
        health = (await http.get("/health")).json()
    assert (health["status"], health["checks"]["outbox"]["status"]) == ("warn", "warn")
    assert "1 messages wait to be published" in health["checks"]["outbox"]["output"]
