"""Which brokers the suites of messages run against.

`SEAWALL_TEST_BROKERS` names them (`rabbitmq,nats`, or `all`). Without it those run whose servers
are quick: the others take minutes, and have a command of their own (`make test-brokers`).
"""

import os

USUAL = ("memory", "valkey", "redis")
MORE = ("rabbitmq", "nats", "kafka", "sqs")


def chosen(*names: str) -> list[str]:
    """Those of `names` that this run is for."""
    said = os.environ.get("SEAWALL_TEST_BROKERS", ",".join(USUAL))
    wanted = (*USUAL, *MORE) if said == "all" else said.split(",")
    unknown = set(wanted) - {*USUAL, *MORE}
    assert not unknown, f"SEAWALL_TEST_BROKERS: no broker is called {', '.join(sorted(unknown))}"
    return [name for name in names if name in wanted]
