"""Which tests share a worker: those of a broker, and those of a file."""

import pytest

from tests.support.scheduling import scope, turn


@pytest.mark.parametrize(
    ("test", "shared"),
    [
        ("tests/contract/test_transport.py::test_a[nats]", "nats"),
        ("tests/contract/test_transport_faults.py::test_b[nats]", "nats"),
        ("tests/contract/test_registry.py::test_c[uvloop-valkey-2]", "valkey"),
        ("tests/integration/messaging/test_kafka.py::test_d", "kafka"),
        ("tests/contract/test_outbox.py::test_e[sqlite]", "tests/contract/test_outbox.py"),
        (
            "tests/integration/gateway/test_f.py::test_g[redis]",
            "tests/integration/gateway/test_f.py",
        ),
        ("tests/unit/test_clock.py::test_h", "tests/unit/test_clock.py"),
    ],
)
def test_scope(test: str, shared: str) -> None:
    assert scope(test) == shared


def test_what_takes_long_comes_first() -> None:
    tests = [
        "tests/unit/test_clock.py::test_a",
        "tests/contract/test_outbox.py::test_b[sqlite]",
        "tests/contract/test_transport.py::test_c[nats]",
        "tests/integration/sagas/test_kills.py::test_d",
        "tests/architecture/test_docs.py::test_e",
        "tests/architecture/test_shape.py::test_g",
        "tests/e2e/test_shop.py::test_f",
    ]
    assert [turn(test) for test in tests] == [3, 1, 0, 0, 0, 2, 0]
