"""From a URL to a transport. Brokers' client libraries are imported only when their URL is used."""

from importlib import import_module
from urllib.parse import urlsplit

from seawall.clock import SYSTEM, Clock
from seawall.errors import Misconfigured
from seawall.facts import Observer, ignore
from seawall.messaging.base import Transport

_VALKEY = "seawall.messaging.transports.valkey"
_MODULES = {
    "memory": "seawall.messaging.transports.memory",
    "redis": _VALKEY,
    "rediss": _VALKEY,
    "valkey": _VALKEY,
    "valkeys": _VALKEY,
    "unix": _VALKEY,
}


def open_transport(url: str, *, observer: Observer = ignore, clock: Clock = SYSTEM) -> Transport:
    """The transport that `url` names, not yet connected: `await transport.open()` does that.

    `memory://NAME`, `redis://HOST:PORT/DB`, `rediss://...` (TLS), `valkey://...`,
    `unix:///path.sock?db=0`. Raises `Misconfigured` for any other.
    """
    scheme = urlsplit(url).scheme
    if scheme not in _MODULES:
        raise Misconfigured(
            f"no message transport for {scheme or url!r}", fix="one of " + ", ".join(_MODULES)
        )
    transport: Transport = import_module(_MODULES[scheme]).from_url(url, observer, clock)
    return transport
