"""The exchange that almost every one is, from its filters to its line in the log, in two strides.

A request without a body goes to one of two instances, on a connection that is kept; the answer
comes in one piece, and is well. What `Exchange`, `Attempt`, `Cluster` and the breakers decide step
by step, for all that can happen, is one thing there, and is done here at once: to an interpreter
each step that is a call costs more than what it does. Both do nothing and say so wherever there
is anything to decide, so that every rule stands where it stood; whoever changes one of those
looks here too, and `tests/unit/gateway/test_plain.py` holds both to the same outcome.
"""

from typing import TYPE_CHECKING

from seawall.gateway import forwarding, records
from seawall.gateway.attempt import Attempt
from seawall.gateway.upstream import IDLE
from seawall.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange
    from seawall.gateway.proxy import Plan


def send(exchange: "Exchange", plan: "Plan", now: float) -> bool:
    """Send a request without a body, of a plan that is plain. False if it is not that simple: then
    nothing has happened."""
    cluster, head, down = plan.cluster, exchange.head, exchange.down
    permit = cluster.breaker.usual
    if permit is None or cluster.in_flight >= cluster.max_requests or not cluster.ways:
        return False
    if not cluster.picker.plain or head.upgrade or exchange.upgrades is not None:
        return False
    one, other = cluster.pairs[int(cluster.random() * cluster.ways)]
    endpoint = one if one.in_flight <= other.in_flight else other
    its, idle = endpoint.breaker.usual, endpoint.idle
    if its is None or not idle or endpoint.in_flight >= endpoint.limit:
        return False
    connection = idle[-1]
    if connection.state != IDLE:
        return False
    idle.pop()

    cluster.in_flight += 1
    tries = cluster.budget.tries
    if now < tries.until:
        tries.fresh += 1
    else:
        tries.add_good(now)
    exchange.cluster = cluster
    exchange.permit = permit
    exchange.due = deadline = exchange.deadline
    if deadline < down.soon:
        down.arm(deadline)
    else:
        down.deadline = deadline
    exchange.tries = 1
    exchange.instance = endpoint.log_text
    attempt = exchange.attempt = Attempt(exchange, cluster, endpoint, its, now)
    attempt.is_plain = True
    attempt.upstream = connection
    connection.send(attempt, head.method, forwarding.request_bytes(exchange, deadline, now))
    return True


def finish(exchange: "Exchange", attempt: Attempt, head: ResponseHead, piece: bytes) -> bool:
    """Pass on an answer that came whole to a request that `send` has sent. False if it is not that
    simple: then nothing has happened."""
    endpoint, connection = attempt.endpoint, attempt.upstream
    status, permit, cluster, plan = head.status, exchange.permit, exchange.cluster, exchange.plan
    if status >= 500 or endpoint.suspect or connection is None:
        return False
    if permit is None or cluster is None or plan is None:
        return False
    if cluster.breaker.usual is not permit or endpoint.breaker.usual is not attempt.permit:
        return False

    proxy, down, request = exchange.proxy, exchange.down, exchange.head
    now = proxy.now()
    exchange.waited = waited = now - exchange.started
    exchange.status = status
    exchange.bytes_out = len(piece)
    keep = request.keep_alive and not proxy.draining
    down.transport.write(forwarding.answer_bytes(exchange, head, piece, keep))

    attempt.over = True
    attempt.upstream = exchange.attempt = None
    endpoint.in_flight -= 1
    its, ours = endpoint.breaker, cluster.breaker
    its.consecutive = ours.consecutive = 0
    window = its.window
    if now < window.until:
        window.fresh += 1
    else:
        window.add_good(now)
    window = ours.window
    if now < window.until:
        window.fresh += 1
    else:
        window.add_good(now)
    connection.release(now)

    exchange.permit = None
    cluster.in_flight -= 1
    exchange.over = True
    proxy.metrics.active_requests -= 1
    plan.metrics.observe(request.method, status, waited)
    records.tell(exchange, now)
    down.finished(keep, now)
    return True
