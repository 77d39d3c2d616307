"""Which cluster the objects are for."""

import re
from dataclasses import dataclass
from enum import StrEnum

from seawall.errors import Misconfigured

# The first and last minor versions whose objects were checked against their schemas.
OLDEST, NEWEST = (1, 20), (1, 37)


@dataclass(frozen=True, slots=True, order=True)
class KubeVersion:
    major: int
    minor: int

    @staticmethod
    def parse(text: str) -> "KubeVersion":
        """`1.31`, with or without a `v` and a patch. Raises `Misconfigured`."""
        match = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+)?", text)
        version = None if match is None else (int(match[1]), int(match[2]))
        if version is None or not OLDEST <= version <= NEWEST:
            raise Misconfigured(
                f"{text!r} is no version of Kubernetes that objects are written for",
                fix=f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}",
            )
        return KubeVersion(*version)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class Ingress(StrEnum):
    """How requests come into the cluster."""

    NGINX = "nginx"
    GATEWAY_API = "gateway-api"
    ISTIO = "istio"


class Mtls(StrEnum):
    """Who issues the certificates of services, where no mesh encrypts."""

    NONE = "none"
    CERT_MANAGER = "cert-manager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    version: KubeVersion = KubeVersion(1, 31)
    ingress: Ingress = Ingress.NGINX
    mtls: Mtls = Mtls.NONE

    def __post_init__(self) -> None:
        if self.mtls is not Mtls.NONE and self.ingress is Ingress.ISTIO:
            raise Misconfigured(
                "Istio issues certificates and encrypts, and services would do it a second time",
                fix="--ingress istio without --mtls",
            )

    def since(self, minor: int) -> bool:
        """Whether the cluster is 1.`minor` or newer."""
        return (self.version.major, self.version.minor) >= (1, minor)
