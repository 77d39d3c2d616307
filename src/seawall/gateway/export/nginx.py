"""The edge as a whole nginx.conf, for nginx 1.18 and later. Pure."""

from seawall.gateway.export.front import Front, heading

# What a worker may hold: a client's connection, and one to a gateway.
_CONNECTIONS = 16_384


def nginx(front: Front) -> str:
    """The text of nginx.conf."""
    lines = [
        *heading(front, "nginx", "nginx -t -c FILE"),
        "worker_processes auto;",
        f"worker_rlimit_nofile {2 * _CONNECTIONS};",
        "# After a reload old workers finish what is under way; streams are cut after that long.",
        f"worker_shutdown_timeout {front.longest}s;",
        "",
        "events {",
        f"    worker_connections {_CONNECTIONS};",
        "}",
        "",
        "http {",
        *_upstream(front),
        "",
        "    # Protocols that routes let clients change to; any other wish is not passed on.",
        *_map("upgrade", front, "$http_upgrade"),
        *_map("connection", front, "upgrade"),
        "",
        "    server_tokens off;",
        "    # The gateways write a line for each request. What did not reach one is in error_log.",
        "    access_log off;",
        "",
        "    server {",
        *_listen(front),
        f"        client_header_timeout {front.head}s;",
        f"        keepalive_timeout {front.client_idle}s;",
        *_max_body(front),
        "",
        "        location / {",
        *(f"            {line}" if line else "" for line in _location(front)),
        "        }",
        "    }",
        "}",
        "",
    ]
    return "\n".join(lines)


def _upstream(front: Front) -> list[str]:
    # nginx leaves out a server after failures, and says 502 at once when all are left out. With
    # one address there is nowhere else to go, so it is never left out.
    several = len(set(front.gateways)) > 1
    rest = "max_fails=3 fail_timeout=1s" if several else "max_fails=0"
    # A request may be tried as often as there are lines. One address is a line twice, for it may
    # be that of several processes, of which one died.
    listed = front.gateways if several else front.gateways[:1] * 2
    return [
        "    upstream gateways {",
        "        least_conn;",
        *(f"        server {gateway} {rest};" for gateway in listed),
        "        keepalive 128;  # idle connections that each worker keeps",
        "        # Less than a gateway waits: a request must not meet one that is being closed.",
        f"        keepalive_timeout {front.gateway_idle}s;",
        "    }",
    ]


def _map(name: str, front: Front, value: str) -> list[str]:
    return [
        f"    map $http_upgrade $gateway_{name} {{",
        '        default "";',
        *(f'        "~*^{protocol}$" {value};' for protocol in front.upgrades),
        "    }",
    ]


def _listen(front: Front) -> list[str]:
    certificate = front.certificate
    if certificate is None:
        return [f"        listen {front.listen};"]
    return [
        "        # Since nginx 1.25.1 http2 is a line of its own; this one warns, and works.",
        f"        listen {front.listen} ssl http2;",
        f"        ssl_certificate {certificate.file};",
        f"        ssl_certificate_key {certificate.key or certificate.file};",
        "        ssl_protocols TLSv1.2 TLSv1.3;",
        "        ssl_session_cache shared:edge:10m;",
        "        ssl_session_tickets off;",
    ]


def _max_body(front: Front) -> list[str]:
    if not front.max_body:  # nginx reads 0 as "no limit"
        return ["        client_max_body_size 1;"]
    return [f"        client_max_body_size {front.max_body};"]


def _location(front: Front) -> list[str]:
    return [
        "proxy_pass http://gateways;",
        "proxy_http_version 1.1;",
        "proxy_set_header Host $http_host;",
        "proxy_set_header Upgrade $gateway_upgrade;",
        "proxy_set_header Connection $gateway_connection;",
        "# This is where requests enter: what clients say about themselves ends here.",
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_set_header X-Request-ID $request_id;",
        *(f'proxy_set_header {name} "";' for name in front.dropped),
        "",
        "# Bodies are passed on as they come: server-sent events and uploads, too.",
        "proxy_buffering off;",
        "proxy_request_buffering off;",
        "proxy_redirect off;",
        "",
        f"proxy_connect_timeout {front.connect}s;",
        "# Longer than a gateway takes: it answers 504 itself, and says why.",
        f"proxy_read_timeout {front.silence}s;",
        f"proxy_send_timeout {front.silence}s;",
        "# Where no connection could be made, any request is tried elsewhere; where one broke",
        "# before the answer, only one of an idempotent method (nginx knows which).",
        "proxy_next_upstream error timeout;",
        f"proxy_next_upstream_tries {front.tries};",
    ]
