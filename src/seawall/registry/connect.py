"""From an address to a registry."""

from importlib.util import find_spec
from urllib.parse import parse_qsl, urlencode, urlsplit

from seawall.errors import Misconfigured
from seawall.facts import Observer, ignore
from seawall.registry.base import Registry
from seawall.registry.memory import MemoryRegistry
from seawall.registry.turns import MemoryTurns, Turns

KUBERNETES = "kubernetes"

RESP_SCHEMES = frozenset({"redis", "rediss", "valkey", "valkeys", "unix"})


def open_registry(url: str, *, observer: Observer = ignore) -> Registry:
    """The registry at `url`; connects when first asked, so this never waits or fails to reach.

    `memory://NAME` is shared inside this process. `redis://`, `valkey://` (the same), `rediss://`
    (TLS) and `unix:///path.sock?db=0` are a Valkey or Redis server; `?namespace=NAME` keeps
    projects on one server apart. `kubernetes://NAMESPACE` is the cluster. Raises `Misconfigured`
    for anything else.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryRegistry(urlsplit(url).netloc or "default")
    if scheme in RESP_SCHEMES:
        # Loading the library takes 0.5 s, which those who only use memory need not wait for.
        from seawall.registry.valkey import ValkeyRegistry

        url, namespace = split_namespace(url)
        return ValkeyRegistry(url, namespace=namespace, observer=observer)
    if scheme == KUBERNETES:
        return _cluster(url)
    raise _no_kind(scheme, url)


def _cluster(url: str) -> Registry:
    if find_spec("lightkube") is None:
        raise Misconfigured(
            "the cluster's registry is read by lightkube, which is not installed",
            fix="pip install 'seawall[kubernetes]'",
        )
    from seawall.registry.kubernetes import KubernetesRegistry

    address, _, query = url.partition("?")
    return KubernetesRegistry(address, project=dict(parse_qsl(query)).get("project", ""))


def beside(registry_url: str, *others: str | None) -> str | None:
    """Where turns and pauses are kept: with the registry, or where that is the cluster, on the
    first of the other servers that is a Valkey or Redis; None if there is none."""
    if urlsplit(registry_url).scheme != KUBERNETES:
        return registry_url
    return next((url for url in others if url and urlsplit(url).scheme in RESP_SCHEMES), None)


def open_turns(url: str) -> Turns:
    """The turns of those who share the registry at `url`; as `open_registry`."""
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryTurns(urlsplit(url).netloc or "default")
    if scheme in RESP_SCHEMES:
        from seawall.registry.turns_valkey import ValkeyTurns

        url, namespace = split_namespace(url)
        return ValkeyTurns(url, namespace=namespace)
    raise _no_kind(scheme, url)


def _no_kind(scheme: str, url: str) -> Misconfigured:
    return Misconfigured(
        f"{scheme or url!r} is no kind of registry",
        fix="memory://NAME, redis://HOST:6379/0, valkey://…, rediss://…, unix:///PATH.sock?db=0 or"
        " kubernetes://NAMESPACE",
    )


def split_namespace(url: str) -> tuple[str, str]:
    """Take `namespace` out of the query; without one it is `seawall`."""
    address, _, query = url.partition("?")
    options = dict(parse_qsl(query))
    namespace = options.pop("namespace", "seawall")
    return f"{address}?{urlencode(options)}" if options else address, namespace
