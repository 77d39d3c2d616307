"""Who a process is among the services: its SPIFFE id (SPIFFE-ID standard, sections 2 and 3)."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seawall.errors import Misconfigured, Refused

TRUST_DOMAIN = "seawall.local"

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
_MOST = 2048  # bytes of an id; the standard's own limit


@dataclass(frozen=True, slots=True)
class WorkloadId:
    """`spiffe://TRUST_DOMAIN/PROJECT/SERVICE`."""

    project: str
    service: str
    trust_domain: str = TRUST_DOMAIN

    def __post_init__(self) -> None:
        if not _TRUST_DOMAIN.fullmatch(self.trust_domain):
            raise Misconfigured(
                f"{self.trust_domain!r} is no trust domain", fix="a-z, 0-9, dot, dash, underscore"
            )
        for part in (self.project, self.service):
            if not _SEGMENT.fullmatch(part) or part in (".", ".."):
                raise Misconfigured(
                    f"{part!r} cannot be a part of an identity",
                    fix="letters, digits, dot, dash and underscore",
                )
        if len(str(self)) > _MOST:
            raise Misconfigured(f"the identity is longer than {_MOST} characters")

    @staticmethod
    def parse(text: str) -> "WorkloadId":
        """Raises `Misconfigured` unless it is an id of this form."""
        scheme, _, rest = text.partition("://")
        parts = rest.split("/")
        if scheme != "spiffe" or len(parts) != 3:
            raise Misconfigured(f"{text!r} is no identity", fix="spiffe://DOMAIN/PROJECT/SERVICE")
        return WorkloadId(parts[1], parts[2], parts[0])

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{self.project}/{self.service}"


class NotAdmitted(Refused):
    """The other side is known, or has no identity, and may not talk to us. `reason` is a short
    name that can be counted: `no certificate`, `no identity` or `not allowed`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def peer_id(certificate: Mapping[str, Any] | None) -> WorkloadId:
    """The id in a verified certificate, as `SSLObject.getpeercert()` returns it.

    A certificate has exactly one URI (X509-SVID, section 2). Raises `NotAdmitted`.
    """
    if not certificate:
        raise NotAdmitted("no certificate", "the other side showed no certificate")
    names: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())
    found = [value for kind, value in names if kind == "URI"]
    if len(found) != 1:
        raise NotAdmitted("no identity", f"the certificate has {len(found)} URIs instead of one")
    try:
        return WorkloadId.parse(found[0])
    except Misconfigured as exc:
        raise NotAdmitted("no identity", exc.reason) from exc


def admit(found: WorkloadId, allowed: Collection[WorkloadId], us: WorkloadId) -> None:
    """Raises `NotAdmitted` unless `found` is one of `allowed`."""
    if found not in allowed:
        known = ", ".join(sorted(str(one) for one in allowed)) or "nobody"
        raise NotAdmitted(
            "not allowed", f"{found} may not talk to {us}{_fix(found, us)}; allowed: {known}"
        )


def _fix(found: WorkloadId, us: WorkloadId) -> str:
    if (found.project, found.trust_domain) != (us.project, us.trust_domain):
        return ""
    if found.service == "gateway":
        return ", to which no route leads"
    return f', which it does not declare: [services.{found.service}] needs = ["{us.service}"]'


def callers_of(
    service: str,
    project: str,
    needs: Mapping[str, Collection[str]],
    routed: Collection[str],
    trust_domain: str = TRUST_DOMAIN,
) -> frozenset[WorkloadId]:
    """Who may call `service`: those that declare that they need it, the gateway if a route leads
    there, and the supervisor, which asks how it is."""
    names = {name for name, needed in needs.items() if service in needed} | {"supervisor"}
    if service in routed:
        names.add("gateway")
    return frozenset(WorkloadId(project, name, trust_domain) for name in names)
