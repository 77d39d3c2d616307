"""How a workload is reached, and by whom: Service, NetworkPolicy, and its account."""

from typing import Any

from seawall.deploy.naming import Object, labels, meta, project_labels, selector
from seawall.deploy.workload import ADMIN_PORT, GATEWAY, PORT, REPLICAS, Workload

# Of the API server, as clusters have it: behind its Service, and where it listens itself.
API_PORTS = (443, 6443)

DNS: dict[str, Any] = {
    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}


def service(workload: Workload, project: str) -> Object:
    name, number = ("https", 443) if workload.speaks_tls else ("http", 80)
    ports = [{"name": name, "port": number, "targetPort": name, "appProtocol": name}]
    if workload.is_gateway:
        ports.append(
            {
                "name": "admin",
                "port": ADMIN_PORT,
                "targetPort": "admin",
                "appProtocol": "http",
            }
        )
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(workload.name, labels(workload, project)),
        "spec": {"selector": selector(workload.name, project), "ports": ports},
    }


def replicas_of_gateway(workload: Workload, project: str) -> Object:
    """A name with the address of every gateway, for who asks each of them."""
    port = {"name": "admin", "port": ADMIN_PORT, "targetPort": "admin", "appProtocol": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(REPLICAS, labels(workload, project)),
        "spec": {
            "clusterIP": "None",
            "selector": selector(workload.name, project),
            "ports": [port],
        },
    }


def account(workload: Workload, project: str, pull_secret: str) -> Object:
    """An account of its own for each: what one may do, or a mesh lets it do, others need not."""
    made: Object = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta(workload.name, labels(workload, project)),
        "automountServiceAccountToken": False,
    }
    if pull_secret:
        made["imagePullSecrets"] = [{"name": pull_secret}]
    return made


def registry_access(workloads: tuple[Workload, ...], project: str) -> list[Object]:
    """For those who find instances by asking the cluster: they may read endpoints, no more."""
    asking = [workload.name for workload in workloads if workload.asks_the_cluster]
    if not asking:
        return []
    name = f"{project}-registry"
    told = project_labels(project)
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": meta(name, told),
            "rules": [
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["get", "list", "watch"],
                }
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": meta(name, told),
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": name,
            },
            "subjects": [{"kind": "ServiceAccount", "name": each} for each in asking],
        },
    ]


def policy(
    workload: Workload, project: str, *, egress_ports: tuple[int, ...], monitoring: str
) -> Object:
    """Who may connect, by what was declared; whatever is not named is cut off both ways."""
    pods = selector(workload.name, project)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(workload.name, labels(workload, project)),
        "spec": {
            "podSelector": {"matchLabels": pods},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": _ingress(workload, project, monitoring),
            "egress": _egress(workload, project, egress_ports),
        },
    }


def _ingress(workload: Workload, project: str, monitoring: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    if workload.is_gateway:
        rules.append({"ports": [_tcp(PORT)]})  # from anywhere: it is the door
        if workload.callers:
            rules.append({"from": _pods(workload.callers, project), "ports": [_tcp(ADMIN_PORT)]})
    elif workload.is_adapter:
        rules.append({"ports": [_tcp(PORT)]})  # the API server asks from no pod, KEDA from its own
    elif workload.callers:
        rules.append({"from": _pods(workload.callers, project), "ports": [_tcp(PORT)]})
    if workload.metrics_port is not None and monitoring:
        namespace = {"kubernetes.io/metadata.name": monitoring}
        rules.append(
            {
                "from": [{"namespaceSelector": {"matchLabels": namespace}}],
                "ports": [_tcp(workload.metrics_port)],
            }
        )
    return rules


def _egress(workload: Workload, project: str, servers: tuple[int, ...]) -> list[dict[str, Any]]:
    rules = [DNS]
    callees = tuple(name for name in workload.callees if name != GATEWAY)
    if callees:
        rules.append({"to": _pods(callees, project), "ports": [_tcp(PORT)]})
    if GATEWAY in workload.callees:
        rules.append({"to": _pods((GATEWAY,), project), "ports": [_tcp(ADMIN_PORT)]})
    outside = {*servers, *(API_PORTS if workload.asks_the_cluster else ())}
    if outside:
        rules.append({"ports": [_tcp(port) for port in sorted(outside)]})
    return rules


def _pods(names: tuple[str, ...], project: str) -> list[dict[str, Any]]:
    return [{"podSelector": {"matchLabels": selector(name, project)}} for name in names]


def _tcp(port: int) -> dict[str, Any]:
    return {"protocol": "TCP", "port": port}
