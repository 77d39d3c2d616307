"""The brokers that are measured: real ones, started here and stopped, on the first core."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from tests.support import servers

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, PEER_CORE = CORES[0], CORES[-1]


# Milliseconds that a fetch may wait for messages on a Kafka that sleeps them through.
SHORT_WAIT = "fetch.wait.max.ms=2"


class _Server(Protocol):
    def stop(self) -> None: ...


def _resp(program: str) -> tuple[_Server, str]:
    server = servers.RespServer(program, fsync="everysec").start()
    return server, server.url


def _rabbitmq() -> tuple[_Server, str]:
    server = servers.rabbitmq()
    return server, server.url


def _nats() -> tuple[_Server, str]:
    server = servers.nats()
    return server, server.url


def _kafka() -> tuple[_Server, str]:
    server = servers.kafka()
    # Tansu takes no idempotent producer.
    return server, f"kafka://127.0.0.1:{server.port}?idempotent=false"


def _kafka_model() -> tuple[_Server, str]:
    server = servers.KafkaModel()
    # It answers a fetch that finds nothing when its wait is over, however much came meanwhile.
    return server, f"kafka://{server.address}?create=false&{SHORT_WAIT}"


def _sqs() -> tuple[_Server, str]:
    server = servers.aws()
    return server, f"sqs://key:secret@eu-central-1?endpoint=http://127.0.0.1:{server.port}"


START: dict[str, Callable[[], tuple[_Server, str]]] = {
    "valkey": lambda: _resp(servers.valkey_program()),
    "redis": lambda: _resp("redis-server"),
    "rabbitmq": _rabbitmq,
    "nats": _nats,
    "kafka": _kafka,
    "kafka-model": _kafka_model,
    "sqs": _sqs,
}

# How durable a stored message is, for whoever compares brokers.
DURABLE = {
    "valkey": "appendfsync everysec",
    "redis": "appendfsync everysec",
    "rabbitmq": "quorum queue",
    "nats": "JetStream in files",
    "kafka": "Tansu, in memory",
    "kafka-model": "librdkafka's model of a cluster, in memory",
    "sqs": "moto, in memory",
}


@contextmanager
def broker(name: str) -> Iterator[str]:
    """The URL of a fresh broker that keeps nothing of an earlier one."""
    # Whatever it starts stays on its core.
    os.sched_setaffinity(0, {SERVER_CORE})
    try:
        server, url = START[name]()
    finally:
        os.sched_setaffinity(0, CORES)
    try:
        yield url
    finally:
        server.stop()
