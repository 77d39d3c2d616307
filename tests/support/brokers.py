"""Which brokers the suites of messages run against.

`SEAWALL_TEST_BROKERS` names them (`rabbitmq,nats`); without it, all of them run.
"""

import os
from typing import Any

import pytest

USUAL = ("memory", "valkey", "redis")
MORE = ("rabbitmq", "nats", "kafka", "sqs")


# Seconds for a test and for what it starts: RabbitMQ takes ten, and half a minute where others
# keep the processors busy.
PATIENCE = {"rabbitmq": 120, "sqs": 60}


def chosen(*names: str) -> list[Any]:
    """Those of `names` that this run is for, as parameters of tests."""
    said = os.environ.get("SEAWALL_TEST_BROKERS") or "all"
    wanted = (*USUAL, *MORE) if said == "all" else said.split(",")
    unknown = set(wanted) - {*USUAL, *MORE}
    assert not unknown, f"SEAWALL_TEST_BROKERS: no broker is called {', '.join(sorted(unknown))}"
    return [
        pytest.param(name, marks=[pytest.mark.timeout(PATIENCE[name])] if name in PATIENCE else [])
        for name in names
        if name in wanted
    ]
