"""What an edge proxy in front of the gateways has to know, in no program's language. Pure.

The edge ends TLS and takes the world's connections; routes, policies and retries between
instances stay with the gateways. So it knows little: where to listen, where the gateways are, and
numbers that must fit theirs. Who writes them down quotes nothing, since nothing gets in here that
would have to be: hosts and files are made of few characters, the rest are numbers.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from seawall.errors import Misconfigured
from seawall.gateway.config import GatewayConfig, Timeouts
from seawall.topology import Address

# Longer than the gateway takes: its own answer (504, and why) is worth more than the edge's.
_MARGIN: Final = 5
# For routes without any time limit: a day is none, and every program takes it.
_NO_LIMIT: Final = 24 * 3600
# Requests that come back to the edge with a broken connection are sent once more, or twice.
MAX_TRIES: Final = 3
# What gateways believe of a proxy that they trust, or services might. It is for peers to say.
_DROPPED: Final = ("forwarded", "x-real-ip", "traceparent", "tracestate", "baggage")

# Stands where a person has to write which addresses the edge has.
UNKNOWN: Final = "ADDRESS OF THE EDGE"

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_FILE: Final = re.compile(r"[A-Za-z0-9._/@+=~-]+")
_PROTOCOL: Final = re.compile(r"[A-Za-z0-9-]+")
_WRITTEN: Final = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """Files in PEM. `key` is empty where the certificate's file holds it, too."""

    file: str
    key: str = ""

    def __post_init__(self) -> None:
        for path in (self.file, self.key or self.file):
            if not _FILE.fullmatch(path):
                raise Misconfigured(
                    f"file name {path!r}: letters, digits and . _ / @ + = ~ - are safe to write",
                    fix="give it another name, or a link with one",
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """An edge proxy. Times are whole seconds. Raises `Misconfigured`."""

    listen: Address
    gateways: tuple[Address, ...]
    certificate: Certificate | None = None
    admin_port: int | None = None  # of each gateway; asked for /readyz
    tries: int = MAX_TRIES
    connect: int = 1
    head: int = 10
    client_idle: int = 75
    gateway_idle: int = 60
    silence: int = 300 + _MARGIN  # without a byte in either direction
    longest: int = 15 + _MARGIN  # what is under way is done by then, except for streams
    max_body: int = 16 * 1024 * 1024
    max_connections: int = 10_000
    upgrades: tuple[str, ...] = ("websocket",)
    dropped: tuple[str, ...] = _DROPPED  # fields that clients may not send
    trusted: bool = False  # the gateways' configuration names proxies already

    def __post_init__(self) -> None:
        if not self.gateways:
            raise Misconfigured("no gateway to pass requests to", fix="--gateway HOST:PORT")
        if not is_literal(self.listen.host):
            raise Misconfigured(
                f"{self.listen.host!r} is no address to listen on", fix="--listen 0.0.0.0:80"
            )
        for gateway in self.gateways:
            if not is_literal(gateway.host) and not _NAME.fullmatch(gateway.host):
                raise Misconfigured(f"{gateway.host!r} is neither an address nor a host name")
        for address in (self.listen, *self.gateways):
            if not 0 < address.port < 65536:
                raise Misconfigured(f"{address}: port {address.port} cannot be connected to")
        for protocol in self.upgrades:
            if not _PROTOCOL.fullmatch(protocol):
                raise Misconfigured(f"{protocol!r} is no protocol that an edge can let through")

    @property
    def has_names(self) -> bool:
        """Whether a gateway is known by a name that has to be resolved."""
        return not all(is_literal(gateway.host) for gateway in self.gateways)


def is_literal(host: str) -> bool:
    """Whether this is an IP address. One with a zone (`fe80::1%eth0`) is of one machine only."""
    try:
        return "%" not in host and bool(ip_address(host))
    except ValueError:
        return False


def address(text: str) -> Address:
    """`HOST:PORT`, or `[ADDRESS]:PORT` for IPv6. Raises `Misconfigured`."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise Misconfigured(f"{text!r} is no address", fix="HOST:PORT, such as 10.0.0.7:8000")
    return Address(match["host"] if match["six"] is None else match["six"], int(match["port"]))


def reachable(own: Address) -> Address:
    """Where a gateway is found from its own machine, which listens on `own`."""
    if own.port == 0:
        raise Misconfigured(
            "the gateway takes any free port, which nobody knows before it does",
            fix="set gateway.port, or say where the gateways are: --gateway HOST:PORT",
        )
    if is_literal(own.host) and ip_address(own.host).is_unspecified:
        return Address("::1" if ":" in own.host else "127.0.0.1", own.port)
    return own


def front(
    config: GatewayConfig,
    gateways: tuple[Address, ...],
    *,
    processes: int = 1,
    listen: Address | None = None,
    certificate: Certificate | None = None,
    admin_port: int | None = None,
) -> Front:
    """An edge that fits gateways of this configuration, `processes` of them at each address."""
    timeouts = [route.timeouts for route in config.routes] or [Timeouts()]
    longest = max(_seconds(each.total) for each in timeouts)
    silence = max(longest, *(_seconds(each.stream_idle) for each in timeouts))
    edge = config.edge
    bodies = [route.max_body for route in config.routes if route.max_body is not None]
    upgrades = {name.lower() for route in config.routes for name in route.upgrades}
    return Front(
        listen=listen or Address("0.0.0.0", 443 if certificate else 80),
        gateways=gateways,
        certificate=certificate,
        admin_port=admin_port,
        head=_seconds(edge.head_timeout),
        client_idle=_seconds(edge.idle_timeout),
        # A request that meets a connection which is just being closed may be lost, so the edge
        # closes first. It is a client of the gateway: its patience is the shorter one.
        gateway_idle=max(1, int(edge.idle_timeout * 0.8)),
        silence=silence + _MARGIN,
        longest=longest + _MARGIN,
        max_body=max([edge.max_body, *bodies]),
        max_connections=edge.max_connections * len(gateways) * max(1, processes),
        upgrades=tuple(sorted(upgrades)) or ("websocket",),
        trusted=bool(config.trusted_proxies),
    )


def _seconds(limit: float) -> int:
    """Whole seconds, rounded up; 0 is no limit."""
    return -int(-limit // 1) if limit else _NO_LIMIT


def trusted_proxies(front: Front) -> tuple[str, ...]:
    """From which addresses the gateways will hear of clients, where that is known here."""
    hosts = [gateway.host for gateway in front.gateways]
    literal = [ip_address(host) for host in hosts if is_literal(host)]
    if len(literal) < len(hosts) or not all(each.is_loopback for each in literal):
        return ()
    return tuple(sorted({"::1/128" if each.version == 6 else "127.0.0.0/8" for each in literal}))


def heading(front: Front, program: str, check: str) -> list[str]:
    """The comment at the top of every configuration."""
    named = ", ".join(f'"{network}"' for network in trusted_proxies(front) or (UNKNOWN,))
    return [
        f"# {program} in front of Seawall's gateways, written by `seawall gateway export`. Do not",
        "# change this file: change seawall.toml, and write it again.",
        "#",
        f"#     {check}",
        "#",
        "# Gateways believe what it says about clients if seawall.toml names its addresses:",
        "#",
        "#     [gateway]",
        f"#     trusted_proxies = [{named}]",
        "",
    ]
