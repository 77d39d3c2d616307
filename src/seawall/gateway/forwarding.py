"""Texts made of an exchange: the request as the service gets it, and its line in the log.

What a client says about itself (`x-forwarded-*`, `traceparent`, `x-request-id`, `baggage`) counts
only if the connection comes from a trusted proxy; what is passed on is written here, by us.
"""

import re
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Final

from seawall.gateway import answers
from seawall.gateway.answers import NO_FLAG, Answer, Flag
from seawall.identity.claims import Claims
from seawall.resilience.deadline import ALLOWANCE, MAX_REMAINING, Deadline
from seawall.wire import forwarded as forwarded_field
from seawall.wire import headers
from seawall.wire.http1 import CHUNKED, RequestHead, ResponseHead
from seawall.wire.trace import TraceContext

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange
    from seawall.gateway.proxy import Proxy, Trust

_NOT_SAMPLED: Final = b"-00\r\n"

# How often a request may pass gateways like this one; more is a loop.
MAX_HOPS: Final = 5
PSEUDONYM: Final = b"seawall"

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/=+-]{1,128}")


def cross_boundary(exchange: "Exchange", proxy: "Proxy") -> Answer | None:
    """Settle what the request says about itself; an answer if it must not go on."""
    head, now = exchange.head, exchange.started
    said = head.boundary
    if proxy.config.forwarded:
        _read_forwarded(exchange, proxy.trust)
    if proxy.rng.random() >= proxy.config.trace_sample:
        exchange.trace_tail = _NOT_SAMPLED
    if said.get(headers.VIA, b"").count(PSEUDONYM) >= MAX_HOPS:
        return Answer(status=508, flag=Flag.CLIENT_PROTOCOL, detail="the request goes in a circle")
    if headers.DEADLINE in said:
        deadline = Deadline.from_header(said[headers.DEADLINE].decode("latin-1"), now)
        if deadline is not None:
            exchange.deadline = deadline.at
            if deadline.expired(now):
                return Answer(
                    status=504, flag=Flag.UPSTREAM_TIMEOUT, detail="the deadline has passed"
                )
    if headers.MAX_FORWARDS in said and head.method == b"OPTIONS":
        answer = _count_down(head, said[headers.MAX_FORWARDS])
        if answer is not None:
            return answer
    if exchange.down.trusted:
        _believe(exchange, proxy, said)
    return None


def _count_down(head: RequestHead, value: bytes) -> Answer | None:
    """RFC 9110, section 7.6.2: how many more proxies OPTIONS may pass; here it ends at zero."""
    if not value.isdigit() or len(value) > 9:
        return answers.bad_request(400, "a Max-Forwards that is no number")
    if not int(value):
        detail = "this is the gateway, where Max-Forwards ended"
        return Answer(status=200, flag=Flag.NONE, detail=detail)
    head.lines.append(b"max-forwards: %d" % (int(value) - 1))
    return None


def _believe(exchange: "Exchange", proxy: "Proxy", said: dict[int, bytes]) -> None:
    forwarded_for = said.get(headers.FORWARDED_FOR, b"").decode("latin-1")
    exchange.client = proxy.trust.client(forwarded_for) or exchange.client
    context = TraceContext.parse(
        said.get(headers.TRACEPARENT, b"").decode("latin-1"),
        said.get(headers.TRACESTATE, b"").decode("latin-1"),
    )
    if context is not None:
        exchange.trace_id = exchange.request_id = context.trace_id.encode("ascii")
        state = f"tracestate: {context.state}\r\n" if context.state else ""
        exchange.trace_tail = f"{'-01' if context.sampled else '-00'}\r\n{state}".encode("latin-1")
    request_id = said.get(headers.REQUEST_ID, b"")
    if _REQUEST_ID.fullmatch(request_id):
        exchange.request_id = request_id


def _read_forwarded(exchange: "Exchange", trust: "Trust") -> None:
    """Take `Forwarded` for what X-Forwarded-* would say, and say in it who asked us.

    A proxy that writes the one passes the others on as its client made them, so where a
    trusted proxy is known to write `Forwarded`, nothing else is believed.
    """
    head, down = exchange.head, exchange.down
    said = head.boundary
    line = forwarded_field.element(down.peer, head.authority, b"http")
    before = said.pop(headers.FORWARDED, b"")
    said.pop(headers.FORWARDED_FOR, None)
    said.pop(headers.FORWARDED_PROTO, None)
    hops = forwarded_field.hops(before) if before and down.trusted else None
    if hops is not None:
        line = before + b", " + line
        nodes = [forwarded_field.address(hop.get(b"for", b"")) for hop in hops]
        said[headers.FORWARDED_FOR] = b", ".join(nodes)
        for node, hop in zip(reversed(nodes), reversed(hops), strict=True):
            said[headers.FORWARDED_PROTO] = hop.get(b"proto", b"http")
            if not trust.trusts(node.decode("ascii")):
                break  # this is the client, and how it asked
    head.lines.append(b"forwarded: " + line)


def request_bytes(exchange: "Exchange", until: float, now: float) -> bytes:
    """The request's head as the service gets it; `until` is how long we wait for it."""
    head, down = exchange.head, exchange.down
    remaining = until - now - ALLOWANCE
    if not 0 < remaining < MAX_REMAINING:
        remaining = 0.0 if remaining <= 0 else MAX_REMAINING
    more = exchange.identity
    if head.body == CHUNKED or head.upgrade or head.trailers:
        more = _more(exchange)
    if not head.authority:  # HTTP/1.0 knows no Host, the service's server insists on one
        head.authority = exchange.cluster_name().encode()
        head.lines.append(b"host: " + head.authority)
    return (
        b"%b %b%b HTTP/1.1\r\n%b%b\r\nx-forwarded-host: %b\r\nx-request-id: %b\r\n"
        b"traceparent: 00-%b-%b%bx-deadline-ms: %d\r\n%b\r\n"
    ) % (
        head.method,
        exchange.path,
        head.query,
        head.whole if head.cut is None else head.block(),
        _origin(exchange) if head.boundary or down.trusted else down.forwarded,
        head.authority,
        exchange.request_id,
        exchange.trace_id,
        exchange.span_id,
        exchange.trace_tail,
        int(remaining * 1000.0),
        more,
    )


def _more(exchange: "Exchange") -> bytes:
    """Lines that only some requests have."""
    head = exchange.head
    more = exchange.identity
    if head.body == CHUNKED:
        more += b"transfer-encoding: chunked\r\n"
    if upgrade := wanted_upgrade(exchange):
        more += b"connection: upgrade\r\nupgrade: %b\r\n" % upgrade
    if head.trailers:
        more += b"connection: te\r\nte: trailers\r\n"
    return more


def wanted_upgrade(exchange: "Exchange") -> bytes:
    """The protocol that the client may change to, or nothing."""
    plan, wanted = exchange.plan, exchange.head.upgrade
    return wanted if plan is not None and wanted in plan.upgrades else b""


def forwarded(peer: str) -> bytes:
    """Where a connection comes from, as the service hears it."""
    return (
        f"x-forwarded-for: {peer}\r\nx-forwarded-proto: http\r\nvia: 1.1 {PSEUDONYM.decode()}"
    ).encode()


def _origin(exchange: "Exchange") -> bytes:
    """What a connection says, and as often as it passed a gateway like this one, that it did:
    a request that goes in a circle is found whoever sends it."""
    boundary = exchange.head.boundary
    if exchange.down.trusted:
        return _forwarded(exchange)
    if headers.VIA not in boundary:
        return exchange.down.forwarded
    hop = b", 1.1 " + PSEUDONYM
    return exchange.down.forwarded + hop * boundary[headers.VIA].count(PSEUDONYM)


def _forwarded(exchange: "Exchange") -> bytes:
    """The same behind a trusted proxy: its word, and our hop added."""
    said = exchange.head.boundary
    peer = exchange.down.peer.encode()
    for_ = said.get(headers.FORWARDED_FOR)
    via = said.get(headers.VIA)
    proto = said.get(headers.FORWARDED_PROTO, b"http").lower()
    lines = [
        b"x-forwarded-for: " + (peer if for_ is None else for_ + b", " + peer),
        b"x-forwarded-proto: " + (proto if proto in (b"http", b"https") else b"http"),
        b"via: " + (b"" if via is None else via + b", ") + b"1.1 " + PSEUDONYM,
    ]
    if headers.BAGGAGE in said:
        lines.append(b"baggage: " + said[headers.BAGGAGE])
    return b"\r\n".join(lines)


def identity_lines(claims: Claims) -> bytes:
    """Who is asking, as the service hears it."""
    return (
        f"x-identity-subject: {claims.subject}\r\n"
        f"x-identity-scopes: {' '.join(claims.scopes)}\r\n"
        f"x-identity-issuer: {claims.issuer}\r\n"
    ).encode()


def answer_bytes(exchange: "Exchange", head: ResponseHead, piece: bytes, keep: bool) -> bytes:
    """An answer's head as the client gets it, and what there is of its body."""
    framing = b""
    if head.body < 0 and exchange.head.version_1_1:
        framing = b"transfer-encoding: chunked\r\n"
    if not keep:
        framing += b"connection: close\r\n"
    return b"%b\r\n%b%bx-request-id: %b\r\n%b\r\n%b" % (
        head.status_line,
        head.whole if head.cut is None else head.block(),
        framing,
        exchange.request_id,
        exchange.told,
        piece,
    )


def refusal_bytes(exchange: "Exchange", answer: Answer, keep: bool) -> bytes:
    """The whole of an answer that is given in place of the service."""
    return answers.render(
        answer,
        service=exchange.cluster_name(),
        request_id=exchange.request_id.decode("ascii"),
        told=exchange.told,
        head_only=exchange.head.method == b"HEAD",
        close=not keep,
    )


def switch_bytes(exchange: "Exchange", head: ResponseHead, rest: bytes) -> bytes:
    """The answer (101) behind which another protocol is spoken, and its first bytes."""
    upgrade = b"connection: upgrade\r\nupgrade: " + head.upgrade
    request_id = b"x-request-id: %b" % exchange.request_id
    ours = exchange.told + b"\r\n" + rest
    return b"\r\n".join([head.status_line, *head.lines, upgrade, request_id, ours])


def hint_bytes(head: ResponseHead) -> bytes:
    return b"\r\n".join([head.status_line, *head.lines, b"\r\n"])


_NO_ROUTE: Final = b'"route":"","service":""'
_EMPTY: Final = b'""'
_NO_FLAG: Final = NO_FLAG.value.encode()

# The last three digits of a number of milliseconds: formatting a float costs ten times as much.
_THOUSANDTHS: Final = [b".%03d" % number for number in range(1000)]
_STATUSES: Final = [b"%d" % status for status in range(1000)]


def log_line(exchange: "Exchange", proxy: "Proxy", now: float) -> bytes:
    """One JSON object. The query is left out: it is where secrets are."""
    head, plan, arm, subject = exchange.head, exchange.plan, exchange.arm, exchange.subject
    took = int((now - exchange.started) * 1e6)
    waited = int(exchange.waited * 1e6)
    # Path and method hold nothing that JSON would escape: the scanner let no quote,
    # backslash or control character pass. Labels and subjects may.
    return (
        b'{"timestamp":"%b","event.name":"access","gateway":"%b","method":"%b","path":"%b",%b,'
        b'"instance":"%b","status":%b,"flags":"%b","duration_ms":%d%b,"upstream_ms":%d%b,'
        b'"bytes_in":%d,"bytes_out":%d,"attempts":%d,"client":"%b","subject":%b,'
        b'"request_id":"%b","trace_id":"%b"}\n'
    ) % (
        proxy.log.stamp.text(now),
        proxy.log_name,
        head.method,
        head.path,
        _NO_ROUTE if plan is None else plan.log_label if arm is None else arm.log_label,
        exchange.instance,
        _STATUSES[exchange.status],
        _NO_FLAG if exchange.flag is NO_FLAG else exchange.flag.value.encode(),
        took // 1000,
        _THOUSANDTHS[took % 1000],
        waited // 1000,
        _THOUSANDTHS[waited % 1000],
        exchange.bytes_in,
        exchange.bytes_out,
        exchange.tries,
        exchange.client.encode(),
        encode_basestring_ascii(subject).encode() if subject else _EMPTY,
        exchange.request_id,
        exchange.trace_id,
    )


def refused_line(proxy: "Proxy", peer: str, answer: Answer, request_id: bytes, now: float) -> bytes:
    """The line of a request whose head could not be read."""
    return (
        b'{"timestamp":"%b","event.name":"access","gateway":"%b","method":"","path":"",%b,'
        b'"instance":"","status":%d,"flags":"%b","duration_ms":0.000,"upstream_ms":0.000,'
        b'"bytes_in":0,"bytes_out":0,"attempts":0,"client":"%b","subject":"",'
        b'"request_id":"%b","trace_id":"%b"}\n'
    ) % (
        proxy.log.stamp.text(now),
        proxy.log_name,
        _NO_ROUTE,
        answer.status,
        answer.flag.value.encode(),
        peer.encode(),
        request_id,
        request_id,
    )
