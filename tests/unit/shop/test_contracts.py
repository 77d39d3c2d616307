"""The services of the shop understand each other, and say what they publish."""

from seawall.contracts.compatibility import compare, faults
from shop import catalog, inventory, notifications, orders, payments, users

CONTRACTS = [
    package.service.contract
    for package in (catalog, inventory, notifications, orders, payments, users)
]


def test_what_is_published_is_what_is_read() -> None:
    assert faults(CONTRACTS) == []
    assert compare(CONTRACTS, CONTRACTS) == []


def test_every_topic_has_a_publisher_and_a_schema() -> None:
    published = {one.topic: one.schema for each in CONTRACTS for one in each.publishes}
    read = {one.topic for each in CONTRACTS for one in each.consumes}
    assert read - published.keys() == {"orders.saga.order"}  # answers, which say themselves
    assert all(schema.get("properties") for schema in published.values())
