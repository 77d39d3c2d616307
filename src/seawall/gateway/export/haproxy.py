"""The edge as a whole haproxy.cfg, for HAProxy 2.4 and later. Pure."""

from seawall.errors import Misconfigured
from seawall.gateway.export.front import Front, heading


def haproxy(front: Front) -> str:
    """The text of haproxy.cfg. Raises `Misconfigured`."""
    lines = [
        *heading(front, "HAProxy", "haproxy -c -f FILE"),
        "global",
        "    # After a reload the old process finishes what is under way; streams are cut then.",
        f"    hard-stop-after {front.longest}s",
        "",
        *_defaults(front),
        "",
        *_frontend(front),
        "",
        *_backend(front),
    ]
    if front.has_names:
        lines += ["", "resolvers system", "    parse-resolv-conf"]
    return "\n".join([*lines, ""])


def _defaults(front: Front) -> list[str]:
    return [
        "defaults",
        "    mode http",
        f"    timeout http-request {front.head}s",
        f"    timeout http-keep-alive {front.client_idle}s",
        f"    timeout connect {front.connect}s",
        "    # Longer than a gateway takes: it answers 504 itself, and says why.",
        f"    timeout client {front.silence}s",
        f"    timeout server {front.silence}s",
        f"    timeout tunnel {front.silence}s",
    ]


def _frontend(front: Front) -> list[str]:
    return [
        "frontend edge",
        f"    bind {front.listen}{_tls(front)}",
        f"    maxconn {front.max_connections}",
        f"    http-request deny deny_status 413 if {{ req.body_size gt {front.max_body} }}",
        "    # This is where requests enter: what clients say about themselves ends here.",
        "    http-request set-header x-forwarded-for %[src]",
        "    http-request set-header x-forwarded-proto http",
        "    http-request set-header x-forwarded-proto https if { ssl_fc }",
        "    http-request set-header x-request-id %[uuid()]",
        *(f"    http-request del-header {name}" for name in front.dropped),
        "    default_backend gateways",
    ]


def _tls(front: Front) -> str:
    certificate = front.certificate
    if certificate is None:
        return ""
    if certificate.key not in ("", certificate.file, f"{certificate.file}.key"):
        raise Misconfigured(
            "HAProxy reads a certificate's key from the same file, or from FILE.key beside it",
            fix=f"cat {certificate.file} {certificate.key} > edge.pem, and --tls-cert edge.pem",
        )
    return f" ssl crt {certificate.file} alpn h2,http/1.1 ssl-min-ver TLSv1.2"


def _backend(front: Front) -> list[str]:
    check = "check inter 1s fall 2 rise 1"
    probe = ["    option tcp-check"]
    if front.admin_port is not None:
        check += f" port {front.admin_port}"
        probe = [
            "    option httpchk",
            "    http-check send meth GET uri /readyz ver HTTP/1.1 hdr host gateway",
        ]
    if front.has_names:
        check += " resolvers system init-addr last,libc,none"
    return [
        "backend gateways",
        "    balance leastconn",
        "    # A client's first request gets a new connection, unless it can be sent again.",
        "    http-reuse safe",
        "    # Where no connection could be made, any request is tried elsewhere; where one broke",
        "    # before the answer, only one of an idempotent method.",
        "    retry-on conn-failure empty-response",
        "    http-request disable-l7-retry if !{ method GET HEAD OPTIONS PUT DELETE }",
        f"    retries {front.tries - 1}",
        "    option redispatch 1",
        *probe,
        *(
            f"    server gateway-{number} {gateway} {check}"
            for number, gateway in enumerate(front.gateways, start=1)
        ),
    ]
