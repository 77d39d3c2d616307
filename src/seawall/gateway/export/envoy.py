"""The edge as a bootstrap file of Envoy, in YAML, for Envoy 1.26 and later. Pure."""

from seawall.gateway.export.front import Certificate, Front, heading
from seawall.topology import Address

_TYPES = "type.googleapis.com/envoy.extensions"
_IDEMPOTENT = "GET|HEAD|OPTIONS|PUT|DELETE"


def envoy(front: Front) -> str:
    """The text of envoy.yaml."""
    lines = [
        *heading(front, "Envoy", "envoy --mode validate -c FILE"),
        "static_resources:",
        "  listeners:",
        "  - name: edge",
        f"    address: {_socket(front.listen)}",
        "    per_connection_buffer_limit_bytes: 65536",
        "    filter_chains:",
        "    - filters:",
        *_indented(6, _manager(front)),
        *_indented(6, _tls(front.certificate)),
        "  clusters:",
        *_indented(2, _cluster(front)),
        *_overload(front),
    ]
    return "\n".join([*lines, ""])


def _indented(by: int, lines: list[str]) -> list[str]:
    return [f"{' ' * by}{line}" for line in lines]


def _socket(address: Address) -> str:
    return f'{{ socket_address: {{ address: "{address.host}", port_value: {address.port} }} }}'


def _manager(front: Front) -> list[str]:
    package = f"{_TYPES}.filters.network.http_connection_manager.v3"
    upgrades = ", ".join(f'{{ upgrade_type: "{name}" }}' for name in front.upgrades)
    return [
        "- name: envoy.filters.network.http_connection_manager",
        "  typed_config:",
        f'    "@type": {package}.HttpConnectionManager',
        "    stat_prefix: edge",
        "    # This is where requests enter: no client is one of us, whatever its address.",
        "    use_remote_address: true",
        "    internal_address_config: { unix_sockets: false }",
        "    generate_request_id: true",
        "    server_header_transformation: PASS_THROUGH",
        f"    upgrade_configs: [{upgrades}]",
        f"    common_http_protocol_options: {{ idle_timeout: {front.client_idle}s }}",
        f"    request_headers_timeout: {front.head}s",
        "    # Longer than a gateway takes: it answers 504 itself, and says why.",
        f"    stream_idle_timeout: {front.silence}s",
        "    route_config:",
        "      name: edge",
        "      virtual_hosts:",
        "      - name: gateways",
        '        domains: ["*"]',
        *_indented(8, _fields(front)),
        "        routes:",
        *_indented(8, _routes(front)),
        "    http_filters:",
        "    - name: envoy.filters.http.router",
        "      typed_config:",
        f'        "@type": {_TYPES}.filters.http.router.v3.Router',
        "        suppress_envoy_headers: true",
    ]


def _fields(front: Front) -> list[str]:
    dropped = ", ".join((*front.dropped, "x-envoy-external-address"))
    return [
        "# What clients say about themselves ends here.",
        f"request_headers_to_remove: [{dropped}]",
        "request_headers_to_add:",
        "- header:",
        "    key: x-forwarded-for",
        '    value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"',
        "  append_action: OVERWRITE_IF_EXISTS_OR_ADD",
    ]


def _routes(front: Front) -> list[str]:
    longest = f"range_match: {{ start: {front.max_body + 1}, end: {2**63 - 1} }}"
    retry = "retry_on: connect-failure,refused-stream"
    often = f"num_retries: {front.tries - 1}"
    elsewhere = [
        "      host_selection_retry_max_attempts: 5",
        "      retry_host_predicate:",
        "      - name: envoy.retry_host_predicates.previous_hosts",
        "        typed_config:",
        f'          "@type": {_TYPES}.retry.host.previous_hosts.v3.PreviousHostsPredicate',
    ]
    route = [
        "  route:",
        "    cluster: gateways",
        "    timeout: 0s",
        f"    idle_timeout: {front.silence}s",
        "    retry_policy:",
    ]
    return [
        f'- match: {{ prefix: "/", headers: [{{ name: content-length, {longest} }}] }}',
        "  direct_response: { status: 413 }",
        "# Where a connection broke before the answer, only an idempotent method is tried again;",
        "# where none could be made, any.",
        "- match:",
        '    prefix: "/"',
        "    headers:",
        '    - name: ":method"',
        f'      string_match: {{ safe_regex: {{ regex: "{_IDEMPOTENT}" }} }}',
        *route,
        f"      {retry},reset",
        f"      {often}",
        *elsewhere,
        '- match: { prefix: "/" }',
        *route,
        f"      {retry}",
        f"      {often}",
        *elsewhere,
    ]


def _tls(certificate: Certificate | None) -> list[str]:
    if certificate is None:
        return []
    return [
        "transport_socket:",
        "  name: envoy.transport_sockets.tls",
        "  typed_config:",
        f'    "@type": {_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext',
        "    common_tls_context:",
        "      alpn_protocols: [h2, http/1.1]",
        "      tls_certificates:",
        f'      - certificate_chain: {{ filename: "{certificate.file}" }}',
        f'        private_key: {{ filename: "{certificate.key or certificate.file}" }}',
    ]


def _cluster(front: Front) -> list[str]:
    package = f"{_TYPES}.upstreams.http.v3"
    most = front.max_connections
    limits = f"max_connections: {most}, max_pending_requests: {most}, max_requests: {most}"
    checked = "" if front.admin_port is None else _checked(front.admin_port)
    return [
        "- name: gateways",
        f"  type: {'STRICT_DNS' if front.has_names else 'STATIC'}",
        f"  connect_timeout: {front.connect}s",
        "  # By least requests, one that refuses connections would be asked again and again.",
        "  lb_policy: ROUND_ROBIN",
        "  typed_extension_protocol_options:",
        "    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:",
        f'      "@type": {package}.HttpProtocolOptions',
        "      # Less than a gateway waits: a request must not meet a connection being closed.",
        f"      common_http_protocol_options: {{ idle_timeout: {front.gateway_idle}s }}",
        "      explicit_http_config: { http_protocol_options: {} }",
        "  circuit_breakers:",
        "    thresholds:",
        "    # A gateway that dies leaves half of what is under way to be tried again.",
        f"    - {{ {limits}, max_retries: {most} }}",
        "  health_checks:",
        "  - timeout: 1s",
        "    interval: 1s",
        "    no_traffic_interval: 1s",
        "    unhealthy_threshold: 2",
        "    healthy_threshold: 1",
        f"    {_probe(front)}",
        "  load_assignment:",
        "    cluster_name: gateways",
        "    endpoints:",
        "    - lb_endpoints:",
        *(
            f"      - endpoint: {{ address: {_socket(gateway)}{checked} }}"
            for gateway in front.gateways
        ),
    ]


def _checked(port: int) -> str:
    return f", health_check_config: {{ port_value: {port} }}"


def _probe(front: Front) -> str:
    if front.admin_port is None:
        return "tcp_health_check: {}"
    return "http_health_check: { path: /readyz, host: gateway }"


def _overload(front: Front) -> list[str]:
    package = f"{_TYPES}.resource_monitors.downstream_connections.v3"
    return [
        "overload_manager:",
        "  resource_monitors:",
        "  - name: envoy.resource_monitors.global_downstream_max_connections",
        "    typed_config:",
        f'      "@type": {package}.DownstreamConnectionsConfig',
        f"      max_active_downstream_connections: {front.max_connections}",
    ]
