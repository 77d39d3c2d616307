"""The project's gateways, as a configuration of the proxy in front of them. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from seawall.errors import Misconfigured
from seawall.gateway.export.envoy import envoy
from seawall.gateway.export.front import (
    UNKNOWN,
    Certificate,
    Front,
    address,
    front,
    reachable,
    trusted_proxies,
)
from seawall.gateway.export.haproxy import haproxy
from seawall.gateway.export.nginx import nginx
from seawall.runtime.gateway_config import gateway_config
from seawall.spec.gateway import GatewaySpec
from seawall.topology import Address

# Program: (what writes its configuration, what checks it).
PROGRAMS: Final[Mapping[str, tuple[Callable[[Front], str], str]]] = {
    "nginx": (nginx, "nginx -t -c"),
    "envoy": (envoy, "envoy --mode validate -c"),
    "haproxy": (haproxy, "haproxy -c -f"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a person asks for; addresses as they are written."""

    program: str
    gateways: Sequence[str] = ()  # the project's own if empty
    listen: str = ""
    certificate: str = ""
    key: str = ""
    admin_port: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A configuration, the command that checks it, and what is left to do."""

    text: str
    check: str
    trusted_proxies: tuple[str, ...]  # to be named in seawall.toml; empty if some are already


def exported(spec: GatewaySpec, wanted: Wanted) -> Exported:
    """Raises `Misconfigured`."""
    write, check = PROGRAMS[wanted.program]
    if wanted.key and not wanted.certificate:
        raise Misconfigured("a key without a certificate", fix="--tls-cert FILE")
    certificate = None
    if wanted.certificate:
        certificate = Certificate(file=wanted.certificate, key=wanted.key)
    made = front(
        gateway_config(spec),
        tuple(address(text) for text in wanted.gateways)
        or (reachable(Address(spec.host, spec.port)),),
        processes=spec.replicas,
        listen=address(wanted.listen) if wanted.listen else None,
        certificate=certificate,
        admin_port=wanted.admin_port,
    )
    named = () if spec.trusted_proxies else trusted_proxies(made) or (UNKNOWN,)
    return Exported(text=write(made), check=check, trusted_proxies=named)
