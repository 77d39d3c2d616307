"""One request and its answer: from the head that a client sent to the line in the access log.

An exchange is driven by two connections. The client's tells it of the request's body and of the
client's fate; the instance's tells it of the answer. It decides: route, filters, instance, again
or not, and it ends exactly once, in `_end`, whatever happened: what it took on the way (a place
in a cluster, a breaker's permit, and by its attempts an endpoint) is given back there and by
`Attempt.leave`, nowhere else.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from seawall.gateway import answers, forwarding, spans
from seawall.gateway.answers import Answer, Flag, render
from seawall.gateway.attempt import BAD, GOOD, NEITHER, Attempt
from seawall.gateway.clusters import Cluster
from seawall.gateway.proxy import Plan, Proxy
from seawall.gateway.timers import NEVER
from seawall.gateway.tunnel import Tunnel
from seawall.gateway.upstream import Endpoint, Upstream
from seawall.identity.claims import Claims
from seawall.resilience.breaker import Permit
from seawall.wire import headers
from seawall.wire.http1 import RequestHead, ResponseHead

if TYPE_CHECKING:
    from seawall.gateway.connection import Downstream

# Of a request's body, what is kept so that it can be sent again. What is longer is sent once.
REPLAY: Final = 64 * 1024

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))  # RFC 9110, 9.2.2
IDEMPOTENCY_KEY: Final = b"idempotency-key"

# Of a client that left before it got an answer; nginx' number.
CLIENT_CLOSED: Final = 499


class Exchange:
    """A request under way."""

    __slots__ = (
        "_attempt", "_held", "_held_size", "_keep", "_proxy", "_service_permit", "_tried",
        "body_done", "bytes_in", "bytes_out", "client", "cluster", "deadline", "down", "flag",
        "head", "identity", "instance", "over", "path", "plan", "plan_name", "request_id",
        "span_id", "started", "status", "stream", "subject", "told", "trace_id", "trace_tail",
        "tries", "tunnel", "waited",
    )  # fmt: skip

    def __init__(self, proxy: Proxy, down: "Downstream", head: RequestHead, now: float) -> None:
        self._proxy: Proxy = proxy
        self.down: Downstream = down
        self.head: RequestHead = head
        self.path: bytes = head.path  # as the service gets it
        self.started: float = now
        self.deadline: float = NEVER
        self.plan: Plan | None = None
        self.cluster: Cluster | None = None  # who is asked
        self.client: str = down.peer
        self.subject: str = ""
        self.plan_name: str = ""  # what the caller has bought
        self.identity: bytes = b""  # header lines about the caller, for the service
        self.told: bytes = b""  # header lines for the client, each with its line end
        ids = proxy.ids.take(48)
        self.trace_id: str = ids[:32]
        self.span_id: str = ids[32:]
        self.trace_tail: str = "-01\r\n"
        self.request_id: str = self.trace_id
        self._attempt: Attempt | None = None  # the one under way
        self._service_permit: Permit | None = None
        self._tried: list[Endpoint] = []
        self.tries: int = 0
        self.instance: str = ""
        self.body_done: bool = True
        self._held: list[bytes] | None = None
        self._held_size: int = 0
        self._keep: bool = True
        self.bytes_in: int = 0
        self.bytes_out: int = 0
        self.status: int = 0  # of the answer; 0 = none was begun
        self.flag: Flag = Flag.NONE
        self.waited: float = 0.0  # seconds until the answer's head came
        self.stream: bool = False
        self.tunnel: Tunnel | None = None
        self.over: bool = False

    # before the service

    def start(self) -> None:
        """Find the route, ask the filters, and send the request on its way."""
        proxy, head, now = self._proxy, self.head, self.started
        proxy.metrics.active_requests += 1
        if head.boundary or self.down.trusted or proxy.config.trace_sample < 1:
            refusal = forwarding.cross_boundary(self, proxy)
            if refusal is not None:
                self.refuse(refusal)
                return
        entry = proxy.routes.find(head)
        if entry is None:
            self.refuse(Answer(status=404, flag=Flag.NO_ROUTE, detail="no route matches"))
            return
        plan = self.plan = entry.value
        self.deadline = min(self.deadline, now + plan.total_timeout)
        for check in plan.filters:
            answer = check(self, now)
            if answer is not None:
                self.refuse(answer)
                return
        if head.body and self.down.body_length() > plan.max_body:
            self.too_large()
            return
        cluster = self.cluster = plan.cluster
        permit = cluster.breaker.admit(now) if cluster.in_flight < cluster.max_requests else None
        if permit is None:
            flag = Flag.UPSTREAM_OVERFLOW
            self.refuse(answers.unavailable(flag, *cluster.why_closed(now)))
            return
        if permit.moved is not None:
            proxy.observer(permit.moved)
        self._service_permit = permit
        cluster.in_flight += 1
        cluster.budget.deposit(now)
        self.down.arm(self.deadline)
        self._try(cluster, now)

    def cluster_name(self) -> str:
        return "" if self.plan is None else self.plan.cluster.service

    def _planned(self) -> Plan:
        plan = self.plan
        assert plan is not None
        return plan

    def _asked(self) -> Cluster:
        cluster = self.cluster
        assert cluster is not None
        return cluster

    def _upstream(self) -> Upstream | None:
        attempt = self._attempt
        return None if attempt is None else attempt.upstream

    def identify(self, claims: Claims) -> None:
        """The caller is known; the service is told in fields that no client can set."""
        self.subject = claims.subject
        self.plan_name = claims.plan
        self.identity = forwarding.identity_lines(claims)

    def tell(self, fields: dict[str, str]) -> None:
        """Add fields to the answer, whoever gives it."""
        self.told += "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()

    def too_large(self) -> None:
        self.give_up(answers.too_large(self._planned().max_body))

    # attempts

    def _try(self, cluster: Cluster, now: float) -> None:
        self.tries += 1
        key = "" if cluster.key is None else cluster.key(self)
        picked = cluster.pick(now, self._tried, key)
        if picked is None:
            flag = Flag.UPSTREAM_OVERFLOW if cluster.endpoints else Flag.NO_HEALTHY_UPSTREAM
            self.refuse(answers.unavailable(flag, *cluster.why_none(now)))
            return
        endpoint, permit = picked
        attempt = self._attempt = Attempt(self, cluster, endpoint, permit, now)
        self.instance = endpoint.log_name
        # After a failure only a new connection says anything: those kept may all be dead.
        upstream = endpoint.take() if endpoint not in self._tried else None
        if upstream is None:
            endpoint.dial(attempt, self._planned().connect_timeout)
        else:
            self._send(attempt, upstream, now)

    def _send(self, attempt: Attempt, upstream: Upstream, now: float) -> None:
        attempt.upstream = upstream
        data = forwarding.request_bytes(self, now)
        if self._held is not None:
            data += b"".join(self._held)
            if self._held_size > REPLAY:
                self._held = None
                self.down.resume_reading()
        upstream.send(attempt, self.head.method, data)
        if self.body_done:
            self._await_first_byte(now)
        elif self.head.expects_continue:
            self.head.expects_continue = False
            self.down.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _await_first_byte(self, now: float) -> None:
        plan = self.plan
        if plan is not None and plan.first_byte_timeout:
            self.deadline = min(self.deadline, now + plan.first_byte_timeout)
            self.down.arm(self.deadline)

    def connected(self, attempt: Attempt, upstream: Upstream) -> None:
        """A connection that was dialled is here."""
        self._send(attempt, upstream, self._proxy.now())

    def not_connected(self, attempt: Attempt, reason: str) -> None:
        """Dialling failed: the request was not sent, so trying elsewhere is safe."""
        now = self._proxy.now()
        self._leave(attempt, BAD, now)
        cluster = self._asked()
        elsewhere = any(other not in self._tried for other in cluster.endpoints)
        detail = f"{cluster.service}: {reason}"
        answer = answers.unavailable(Flag.UPSTREAM_FAILED, detail, 1.0)
        self._again(now, answer, safe=elsewhere)

    def _again(self, now: float, answer: Answer, *, safe: bool) -> None:
        """Try once more, if that is safe and affordable; or say what went wrong."""
        cluster = self._asked()
        if safe and (self._held is not None or not self.bytes_in):
            if self.tries >= cluster.attempts:
                answer = replace(answer, flag=Flag.RETRIES_EXHAUSTED)
            elif cluster.budget.withdraw(now):
                self._proxy.metrics.retried(cluster.service)
                self._try(cluster, now)
                return
        self.refuse(answer)

    # the request's body

    def hold(self, piece: bytes) -> None:
        """Keep a piece that came before there is a connection, or to send it again."""
        if self._held is None:
            self._held = []
        self._held.append(piece)
        self._held_size += len(piece)
        self.bytes_in += len(piece)

    def take_body(self, piece: bytes, ended: bool) -> None:
        """The next piece of the request's body."""
        self.body_done = ended
        upstream = self._upstream()
        if upstream is None:
            self.hold(piece)
            if self._held_size > REPLAY:
                self.down.pause_reading()
            return
        if self._held is not None or not self.bytes_in:
            self.hold(piece)
            if self._held_size > REPLAY:
                self._held = None
        else:
            self.bytes_in += len(piece)
        upstream.transport.write(piece)
        if ended and not self.status:
            self._await_first_byte(self._proxy.now())

    # the answer

    def answered(self, attempt: Attempt, head: ResponseHead, piece: bytes, ended: bool) -> None:
        """The answer's head is here, and `piece` of its body."""
        now = self._proxy.now()
        for finish in self._planned().finishers:
            finish(self, head)
        self.waited = now - self.started
        self.status = head.status
        keep = self.head.keep_alive and self.body_done and not self._proxy.draining
        if head.body < 0:
            keep = keep and self.head.version_1_1
            self._maybe_stream(head, now)
        self._keep = keep
        self.bytes_out += len(piece)
        cluster = self.cluster
        if cluster is not None and cluster.watches:
            self.told += cluster.answered(self, attempt.endpoint, attempt.began, now)
        self.down.transport.write(forwarding.answer_bytes(self, head, piece, keep))
        if ended:
            self._complete(now)
        elif self.down.write_paused:
            self.client_full()

    def _maybe_stream(self, head: ResponseHead, now: float) -> None:
        plan = self._planned()
        if plan.stream or head.is_event_stream():
            self.stream = True
            self.deadline = now + plan.stream_idle
        elif plan.first_byte_timeout:
            self.deadline = self.started + plan.total_timeout
        self.down.arm(self.deadline)

    def relayed(self, piece: bytes, ended: bool) -> None:
        """The next piece of the answer's body."""
        self.bytes_out += len(piece)
        if piece:
            self.down.transport.write(piece)
        if ended:
            self._complete(self._proxy.now())
        elif self.stream:
            self._touch()

    def hinted(self, head: ResponseHead) -> None:
        """Early hints (103): passed on to clients that know interim answers."""
        if self.head.version_1_1:
            self.down.write(forwarding.hint_bytes(head))

    def _touch(self) -> None:
        self.deadline = self._proxy.now() + self._planned().stream_idle

    def _complete(self, now: float) -> None:
        """The whole answer was passed on."""
        attempt = self._attempt
        assert attempt is not None
        upstream = attempt.upstream
        assert upstream is not None
        good = self.status < 500
        self._leave(attempt, GOOD if good else BAD, now)
        if self.body_done and not (self.bytes_in and upstream.transport.get_write_buffer_size()):
            upstream.release(now)
        else:
            upstream.close()  # it still has to read a request that it answered already
        self._end(now, GOOD if good else BAD)
        self.down.finished(self._keep, now)

    # another protocol

    def upgrade(self) -> bytes:
        """The protocol that the client may change to, or nothing."""
        plan, wanted = self.plan, self.head.upgrade
        return wanted if plan is not None and wanted in plan.upgrades else b""

    def may_switch(self, head: ResponseHead) -> bool:
        wanted = self.upgrade()
        return bool(wanted) and head.upgrade == wanted

    def switched(self, attempt: Attempt, head: ResponseHead, rest: bytes) -> Tunnel:
        """The instance speaks the other protocol from here on; so do we all."""
        now = self._proxy.now()
        upstream, plan = attempt.upstream, self._planned()
        assert upstream is not None
        self.waited = now - self.started
        self.status = head.status
        self.stream = True
        self.bytes_out += len(rest)
        self.down.write(forwarding.switch_bytes(self, head, rest))
        tunnel = self.tunnel = Tunnel(self, self._proxy, upstream, plan.stream_idle)
        self.down.begin_tunnel(tunnel)
        return tunnel

    def tunnel_ended(self) -> None:
        """Both sides of the tunnel have ended, or the instance's was lost."""
        now = self._proxy.now()
        self._drop(now, GOOD)
        self._end(now, GOOD)
        self.down.finished(False, now)

    def client_ended(self) -> None:
        """The client has ended its side, and may still read."""
        self._keep = False
        self.deadline = min(self.deadline, self._proxy.now() + self._proxy.edge.half_close)
        self.down.arm(self.deadline)

    # backpressure from the client

    def client_full(self) -> None:
        upstream = self._upstream()
        if upstream is not None:
            upstream.pause_reading()

    def client_drained(self) -> None:
        upstream = self._upstream()
        if upstream is not None:
            upstream.resume_reading()

    # ends before the end

    def upstream_lost(self, attempt: Attempt, served: bool) -> None:
        """The connection broke before the answer was whole."""
        now = self._proxy.now()
        if self.tunnel is not None:
            self.tunnel_ended()
            return
        # Servers close connections that idle; when one does so just now, it says nothing about it.
        self._leave(attempt, NEITHER if served and not self.status else BAD, now)
        if self.status:
            self._broken(Flag.UPSTREAM_CLOSED, now, NEITHER)
            return
        detail = "the instance closed the connection before it answered"
        answer = Answer(status=502, flag=Flag.UPSTREAM_CLOSED, detail=detail)
        idempotent = self.head.method in IDEMPOTENT or self.head.has(IDEMPOTENCY_KEY)
        self._again(now, answer, safe=idempotent)

    def upstream_misbehaved(self, attempt: Attempt, reason: str) -> None:
        """What the instance sent is not HTTP; its connection is closed already."""
        now = self._proxy.now()
        self._leave(attempt, BAD, now)
        if self.status:
            self._broken(Flag.UPSTREAM_PROTOCOL, now, BAD)
        else:
            detail = f"the instance's answer is not HTTP: {reason}"
            self.refuse(Answer(status=502, flag=Flag.UPSTREAM_PROTOCOL, detail=detail), BAD)

    def expired(self, now: float) -> None:
        """The deadline has passed."""
        if self.down.half_closed:
            self.client_gone(Flag.CLIENT_CLOSED)
            self.down.abort()
        elif self.status:
            self._drop(now, NEITHER if self.stream else BAD)
            flag = Flag.STREAM_IDLE if self.stream else Flag.UPSTREAM_TIMEOUT
            self._broken(flag, now, GOOD if self.stream else BAD)
        elif not self.body_done:
            self.give_up(answers.bad_request(408, "the request's body did not come in time"))
        else:
            # A client that gives no time says nothing about the service.
            verdict = NEITHER if headers.DEADLINE in self.head.boundary else BAD
            self._drop(now, verdict)
            again = self.head.method in IDEMPOTENT
            self.refuse(answers.too_late(now - self.started, retryable=again), verdict)

    def give_up(self, answer: Answer) -> None:
        """End for a reason that is the client's: an answer, or if one was begun, a broken one."""
        now = self._proxy.now()
        self._drop(now, NEITHER)
        if self.status:
            self._broken(answer.flag, now, NEITHER)
        else:
            self.refuse(answer)

    def client_gone(self, flag: Flag) -> None:
        """The client's connection is closed; nobody wants the answer."""
        if self.over:
            return
        now = self._proxy.now()
        self._drop(now, NEITHER if self.tunnel is None else GOOD)
        self.flag = flag if self.tunnel is None else Flag.NONE
        if not self.status:
            self.status = CLIENT_CLOSED
        self._end(now, NEITHER)

    def _drop(self, now: float, verdict: int) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.drop(verdict, now)

    def _broken(self, flag: Flag, now: float, verdict: int) -> None:
        """End an answer that was begun so that the client sees that it is not whole."""
        self.flag = flag
        self._end(now, verdict)
        self.down.abort()

    def refuse(self, answer: Answer, verdict: int = NEITHER) -> None:
        """Answer in place of the service, and end; `verdict` is on the service."""
        now = self._proxy.now()
        self.status = answer.status
        self.flag = answer.flag
        keep = self.head.keep_alive and not self._proxy.draining and not answer.close
        keep = keep and self.down.can_continue()
        self.down.write(
            render(
                answer,
                service=self.cluster_name(),
                request_id=self.request_id,
                head_only=self.head.method == b"HEAD",
                close=not keep,
            )
        )
        self._end(now, verdict)
        self.down.finished(keep, now)

    def _leave(self, attempt: Attempt, verdict: int, now: float) -> None:
        """The attempt is over, and says how its instance did."""
        self._attempt = None
        self._tried.append(attempt.endpoint)
        attempt.leave(verdict, now)

    def _end(self, now: float, verdict: int) -> None:
        self.over = True
        self._held = None
        proxy, plan = self._proxy, self.plan
        metrics = proxy.metrics
        metrics.active_requests -= 1
        seconds = now - self.started
        if plan is None:
            metrics.unrouted.observe(self.head.method, self.status, seconds)
        else:
            plan.metrics.observe(self.head.method, self.status, seconds)
            permit, cluster = self._service_permit, self.cluster
            if permit is not None and cluster is not None:
                cluster.in_flight -= 1
                if verdict == NEITHER:
                    cluster.breaker.cancelled(permit, now)
                elif verdict == GOOD and not permit.probe:
                    cluster.breaker.succeeded(permit, now)
                else:
                    cluster.settled(permit, verdict == GOOD, now)
        if self.flag is not Flag.NONE:
            metrics.flagged(self.flag)
        if proxy.log.is_on:
            proxy.log.add(forwarding.log_line(self, proxy, now))
        if proxy.spans is not None:
            spans.record(self, proxy, proxy.spans, now)
