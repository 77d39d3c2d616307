"""From an address to a registry."""

from urllib.parse import parse_qsl, urlencode, urlsplit

from seawall.errors import Misconfigured
from seawall.facts import Observer, ignore
from seawall.registry.base import Registry
from seawall.registry.memory import MemoryRegistry

RESP_SCHEMES = frozenset({"redis", "rediss", "valkey", "valkeys", "unix"})


def open_registry(url: str, *, observer: Observer = ignore) -> Registry:
    """The registry at `url`; connects when first asked, so this never waits or fails to reach.

    `memory://NAME` is shared inside this process. `redis://`, `valkey://` (the same), `rediss://`
    (TLS) and `unix:///path.sock?db=0` are a Valkey or Redis server; `?namespace=NAME` keeps
    projects on one server apart. Raises `Misconfigured` for anything else.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryRegistry(urlsplit(url).netloc or "default")
    if scheme in RESP_SCHEMES:
        # Loading the library takes 0.5 s, which those who only use memory need not wait for.
        from seawall.registry.valkey import ValkeyRegistry

        url, namespace = split_namespace(url)
        return ValkeyRegistry(url, namespace=namespace, observer=observer)
    raise Misconfigured(
        f"{scheme or url!r} is no kind of registry",
        fix="memory://NAME, redis://HOST:6379/0, valkey://…, rediss://… or unix:///PATH.sock?db=0",
    )


def split_namespace(url: str) -> tuple[str, str]:
    """Take `namespace` out of the query; without one it is `seawall`."""
    address, _, query = url.partition("?")
    options = dict(parse_qsl(query))
    namespace = options.pop("namespace", "seawall")
    return f"{address}?{urlencode(options)}" if options else address, namespace
