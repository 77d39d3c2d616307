"""An exchange that goes through in two strides leaves everything as one that takes each step."""

import pytest

from seawall.gateway.access import AccessLog
from seawall.gateway.config import Route
from seawall.gateway.limits import Limit, LimitBy
from seawall.gateway.metrics import text
from tests.support.wires import OK, Pair

ASK = b"GET /a?b=c HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n"
ASKED = [
    ASK,
    ASK.replace(b"GET", b"HEAD"),
    ASK.replace(b"1.1", b"1.0"),
    ASK.replace(b"x: y", b"connection: close"),
    ASK.replace(b"x: y", b"te: trailers\r\nconnection: te"),
    ASK.replace(b"x: y", b"x-deadline-ms: 700"),
    ASK.replace(b"GET", b"POST").replace(b"x: y", b"content-length: 0"),
    ASK + ASK,
    ASK + b"nonsense\r\n\r\n",
]
ANSWERS = [
    OK,
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nx-load-shed: 1\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    b"no answer\r\n\r\n",
]
LIMITED = Route(service="shop", limits=(Limit(rate=1.0, burst=3, by=LimitBy.ADDRESS),))


def outcome(
    *, at_once: bool, asked: bytes, answer: bytes, draining: bool = False, suspect: bool = False
) -> list[object]:
    """All that can be seen of an exchange, and of what it leaves behind."""
    lines: list[bytes] = []

    def write(data: bytes) -> int:
        lines.append(data)
        return len(data)

    pair = Pair(routes=(LIMITED,))
    pair.connect()  # for what follows where the first is closed
    proxy, endpoint = pair.gateway.proxy, pair.endpoint
    proxy.log = AccessLog(write)
    proxy.draining = draining
    endpoint.suspect = suspect
    for entry in proxy.routes.entries:
        assert entry.value.is_plain
        entry.value.is_plain = at_once
    sent = pair.feed(asked, answer)
    pair.pass_time(0.5)
    proxy.log.flush()
    now, cluster = pair.clock.now(), pair.gateway.cluster_list()[0]
    return [
        *(sent, pair.client.data, pair.client.closed, pair.service.closed, lines),
        *(text(proxy.metrics), pair.down.state, pair.down.deadline, pair.up.state),
        *(pair.up.deadline, pair.up.served, len(endpoint.idle), endpoint.in_flight),
        *(endpoint.requests, endpoint.suspect, endpoint.breaker.snapshot(now)),
        *(cluster.in_flight, cluster.breaker.snapshot(now), cluster.budget.left(now)),
    ]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("asked", ASKED)
def test_both_ways_lead_to_the_same(asked: bytes, answer: bytes) -> None:
    plain = outcome(at_once=True, asked=asked, answer=answer)
    assert plain == outcome(at_once=False, asked=asked, answer=answer)


def test_so_they_do_in_a_gateway_that_drains_and_at_an_instance_that_failed() -> None:
    for draining, suspect in ((True, False), (False, True)):
        plain, stepwise = (
            outcome(at_once=way, asked=ASK, answer=OK, draining=draining, suspect=suspect)
            for way in (True, False)
        )
        assert plain == stepwise
