"""How clients' requests reach the gateway: Ingress, or Gateway and HTTPRoute, or Istio's pair.

Whatever is in front passes everything on: routes, limits, retries and timeouts are the gateway's,
and a second layer that retries would multiply.
"""

import math
from typing import Any

from seawall.deploy.naming import Object, meta, project_labels
from seawall.deploy.target import Ingress, Target
from seawall.deploy.workload import GATEWAY
from seawall.spec.project import Spec


def edge(spec: Spec, target: Target) -> list[Object]:
    match target.ingress:
        case Ingress.NGINX:
            return [_ingress(spec)]
        case Ingress.GATEWAY_API:
            return [_gateway(spec), _route(spec)]
        case Ingress.ISTIO:
            return [_istio_gateway(spec), _virtual_service(spec)]


def longest_wait(spec: Spec) -> float:
    """Seconds for which the proxy in front must wait for the gateway's answer at least."""
    waits = [route.timeout for route in spec.gateway.routes]
    streams = [route.timeouts.stream_idle for route in spec.gateway.routes if route.stream]
    return max([*waits, *streams], default=15.0)


def _ingress(spec: Spec) -> Object:
    host, secret = spec.deploy.host, spec.deploy.tls_secret
    rule: dict[str, Any] = {
        "http": {
            "paths": [
                {
                    "path": "/",
                    "pathType": "Prefix",
                    "backend": {"service": {"name": GATEWAY, "port": {"name": "http"}}},
                }
            ]
        }
    }
    wait = str(math.ceil(longest_wait(spec)) + 5)
    prefix = "nginx.ingress.kubernetes.io"
    annotations = {
        f"{prefix}/proxy-body-size": str(spec.gateway.max_body),
        f"{prefix}/proxy-buffering": "off",
        f"{prefix}/proxy-next-upstream": "off",
        f"{prefix}/proxy-read-timeout": wait,
        f"{prefix}/proxy-request-buffering": "off",
        f"{prefix}/proxy-send-timeout": wait,
        # Requests go to the Service, which leaves out pods that are not ready at once.
        f"{prefix}/service-upstream": "true",
    }
    made: dict[str, Any] = {"ingressClassName": "nginx"}
    if secret:
        made["tls"] = (
            [{"hosts": [host], "secretName": secret}] if host else [{"secretName": secret}]
        )
    made["rules"] = [{"host": host, **rule} if host else rule]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {**_meta(spec), "annotations": annotations},
        "spec": made,
    }


def _gateway(spec: Spec) -> Object:
    host, secret = spec.deploy.host, spec.deploy.tls_secret
    listener: dict[str, Any] = {"name": "http", "protocol": "HTTP", "port": 80}
    if secret:
        listener = {
            "name": "https",
            "protocol": "HTTPS",
            "port": 443,
            "tls": {"mode": "Terminate", "certificateRefs": [{"kind": "Secret", "name": secret}]},
        }
    if host:
        listener["hostname"] = host
    listener["allowedRoutes"] = {"namespaces": {"from": "Same"}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": _meta(spec),
        "spec": {"gatewayClassName": spec.deploy.gateway_class, "listeners": [listener]},
    }


def _route(spec: Spec) -> Object:
    made: dict[str, Any] = {"parentRefs": [{"name": spec.project.name}]}
    if spec.deploy.host:
        made["hostnames"] = [spec.deploy.host]
    made["rules"] = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [{"name": GATEWAY, "port": 80}],
        }
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": _meta(spec),
        "spec": made,
    }


def _istio_gateway(spec: Spec) -> Object:
    secret = spec.deploy.tls_secret
    server: dict[str, Any] = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}}
    if secret:
        server = {
            "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
            "tls": {"mode": "SIMPLE", "credentialName": secret},
        }
    server["hosts"] = [spec.deploy.host or "*"]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": _meta(spec),
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
    }


def _virtual_service(spec: Spec) -> Object:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": _meta(spec),
        "spec": {
            "hosts": [spec.deploy.host or "*"],
            "gateways": [spec.project.name],
            "http": [
                {
                    "route": [{"destination": {"host": GATEWAY, "port": {"number": 80}}}],
                    "retries": {"attempts": 0},
                }
            ],
        },
    }


def _meta(spec: Spec) -> dict[str, Any]:
    return meta(spec.project.name, project_labels(spec.project.name))
