"""From a URL to a transport. Brokers' client libraries are imported only when their URL is used."""

from importlib import import_module
from types import ModuleType
from urllib.parse import urlsplit

from seawall.clock import SYSTEM, Clock
from seawall.errors import Misconfigured
from seawall.facts import Observer, ignore
from seawall.messaging.base import Transport

_VALKEY = "seawall.messaging.transports.valkey"
_NATS = "seawall.messaging.transports.nats"
_RABBITMQ = "seawall.messaging.transports.rabbitmq"
_KAFKA = "seawall.messaging.transports.kafka"
_SQS = "seawall.messaging.transports.sqs"
_MODULES = {
    "memory": "seawall.messaging.transports.memory",
    "redis": _VALKEY,
    "rediss": _VALKEY,
    "valkey": _VALKEY,
    "valkeys": _VALKEY,
    "unix": _VALKEY,
    "amqp": _RABBITMQ,
    "amqps": _RABBITMQ,
    "nats": _NATS,
    "tls": _NATS,
    "kafka": _KAFKA,
    "kafkas": _KAFKA,
    "sqs": _SQS,
    "eventbridge": _SQS,
}
# What brings the client library of a transport that needs more than Seawall itself.
_EXTRAS = {_RABBITMQ: "rabbitmq", _KAFKA: "kafka", _SQS: "sqs"}


def open_transport(url: str, *, observer: Observer = ignore, clock: Clock = SYSTEM) -> Transport:
    """The transport that `url` names, not yet connected: `await transport.open()` does that.

    `memory://NAME`, `redis://HOST:PORT/DB`, `rediss://...` (TLS), `valkey://...`,
    `unix:///path.sock?db=0`, `amqp://HOST:5672/VHOST`, `amqps://...`, `nats://HOST:4222`,
    `tls://...` (NATS over TLS), `kafka://HOST:PORT`, `kafkas://...`, `sqs://REGION`,
    `eventbridge://REGION`. Raises `Misconfigured` for any other, and where the client library
    of that broker is not installed.
    """
    transport: Transport = _load(transport_module(url)).from_url(url, observer, clock)
    return transport


def transport_module(url: str) -> str:
    """The name of the module whose transport `url` names. Raises `Misconfigured` if none does."""
    scheme = urlsplit(url).scheme
    if scheme not in _MODULES:
        raise Misconfigured(
            f"no message transport for {scheme or url!r}", fix="one of " + ", ".join(_MODULES)
        )
    return _MODULES[scheme]


def _load(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(name)
        if extra is None or (error.name or "").startswith("seawall"):
            raise
        raise Misconfigured(
            f"{error.name} is not installed, and {extra} needs it",
            fix=f"pip install 'seawall[{extra}]'",
        ) from error
