"""Certificates between services on a cluster without a mesh: cert-manager issues, pods mount.

An authority of the project's own signs a certificate for each workload, with its SPIFFE id as the
only name. A pod finds `tls.crt`, `tls.key`, `ca.crt` and `policy.json` in one folder, which
`SEAWALL_TLS` names: what `seawall up` hands to a process on a laptop.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seawall.deploy.naming import Object, labels, meta, project_labels
from seawall.deploy.workload import IDENTITY, Workload
from seawall.identity.credentials import POLICY, Policy
from seawall.identity.workload import WorkloadId
from seawall.spec.project import Spec

_API = "cert-manager.io/v1"

# Nothing is ever revoked, so a certificate that is stolen is of use for a day at most; a third of
# it is left when the next is there, for a cert-manager that is away overnight.
_DURATION, _RENEW = "24h0m0s", "8h0m0s"

# The authority's own; who trusts it is told by the file beside each certificate.
_AUTHORITY_DURATION, _AUTHORITY_RENEW = "8760h0m0s", "2920h0m0s"


def identified(workloads: Sequence[Workload]) -> tuple[Workload, ...]:
    """The same with an identity each."""
    return tuple(replace(each, has_identity=True) for each in workloads)


def authority(spec: Spec) -> list[Object]:
    """An issuer of the project's own, whose authority signs itself."""
    project = spec.project.name
    own, signs = f"{project}-authority", f"{project}-self-signed"
    return [
        _issuer(signs, project, {"selfSigned": {}}),
        {
            "apiVersion": _API,
            "kind": "Certificate",
            "metadata": meta(own, project_labels(project)),
            "spec": {
                "isCA": True,
                "commonName": own,
                "secretName": own,
                "duration": _AUTHORITY_DURATION,
                "renewBefore": _AUTHORITY_RENEW,
                "privateKey": {"algorithm": "ECDSA", "size": 256},
                "issuerRef": {"name": signs, "kind": "Issuer", "group": "cert-manager.io"},
            },
        },
        _issuer(own, project, {"ca": {"secretName": own}}),
    ]


def of_workload(workload: Workload, spec: Spec) -> list[Object]:
    """Its certificate, and the policy that lies beside it: who may call it."""
    project = spec.project.name
    return [
        {
            "apiVersion": _API,
            "kind": "Certificate",
            "metadata": meta(f"{workload.name}-identity", labels(workload, project)),
            "spec": {
                "secretName": f"{workload.name}-identity",
                "duration": _DURATION,
                "renewBefore": _RENEW,
                "uris": [str(_id(spec, workload.name))],
                "usages": ["digital signature", "server auth", "client auth"],
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
                "issuerRef": {
                    "name": f"{project}-authority",
                    "kind": "Issuer",
                    "group": "cert-manager.io",
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta(f"{workload.name}-callers", labels(workload, project)),
            "data": {POLICY: _policy(workload, spec)},
        },
    ]


def volume(workload: Workload, mode: int) -> dict[str, Any]:
    """Certificate and policy in one folder."""
    sources = [
        {"secret": {"name": f"{workload.name}-identity"}},
        {"configMap": {"name": f"{workload.name}-callers"}},
    ]
    return {"name": "identity", "projected": {"defaultMode": mode, "sources": sources}}


def mount() -> dict[str, Any]:
    return {"name": "identity", "mountPath": IDENTITY, "readOnly": True}


def _issuer(name: str, project: str, how: dict[str, Any]) -> Object:
    return {
        "apiVersion": _API,
        "kind": "Issuer",
        "metadata": meta(name, project_labels(project)),
        "spec": how,
    }


def _id(spec: Spec, service: str) -> WorkloadId:
    return WorkloadId(spec.project.name, service, spec.identity.trust_domain)


def _policy(workload: Workload, spec: Spec) -> str:
    """Its callers, and itself: its probes ask it from inside the pod. Gateway and adapter answer
    others than services, and only call with their certificate."""
    plain = {name for name, service in spec.services.items() if not service.mtls}
    serves = not (workload.is_gateway or workload.is_adapter or workload.name in plain)
    callers = {*workload.callers, workload.name} if serves else set()
    policy = Policy(
        callers=frozenset(_id(spec, caller) for caller in callers),
        plain=frozenset(plain),
        serves=serves,
    )
    return policy.to_json().decode()
