"""One request and its answer: from the head that a client sent to the line in the access log.

An exchange is driven by two connections. The client's tells it of the request's body and of the
client's fate; the instance's tells it of the answer. It decides: route, filters, instance, again
or not, and it ends exactly once, in `end`, whatever happened: what it took on the way (a place
in a cluster and a gate, a breaker's permit, a timer, and by its attempts an endpoint) is given
back there and by `Attempt.leave`, nowhere else.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from seawall.gateway import admission, again, answers, fallback, forwarding, plain, records, spans
from seawall.gateway.admission import Gate
from seawall.gateway.answers import NO_FLAG, Answer, Flag
from seawall.gateway.attempt import Attempt
from seawall.gateway.clusters import Cluster
from seawall.gateway.dispatch import dispatch
from seawall.gateway.filters import finished
from seawall.gateway.proxy import Plan, Proxy
from seawall.gateway.retrying import CONNECT, IDEMPOTENCY_KEY
from seawall.gateway.timers import NEVER
from seawall.gateway.tunnel import Tunnel
from seawall.gateway.upstream import Endpoint, Upstream
from seawall.gateway.verdicts import BAD, GOOD, NEITHER
from seawall.identity.claims import Claims
from seawall.resilience.breaker import Permit
from seawall.wire.http1 import RequestHead, ResponseHead

if TYPE_CHECKING:
    from seawall.gateway.coding import Coder
    from seawall.gateway.connection import Downstream
    from seawall.gateway.mirroring import Mirroring
    from seawall.gateway.splitting import PlannedArm
    from seawall.gateway.upgrades import LimitUpgrades

# Of a request's body, what is kept so that it can be sent again. What is longer is sent once.
REPLAY: Final = 64 * 1024

# Of an exchange without hedges, which is almost every one. It is never written to.
NONE: Final[list[Attempt]] = []
# Of one at whose first try nobody has failed yet. It is never written to either.
NOBODY: Final[list[Endpoint]] = []


class Exchange:
    """A request under way."""

    __slots__ = (
        "_gap", "_keep", "_timer", "arm", "attempt", "body_done", "bytes_in", "bytes_out", "client",
        "cluster", "coder", "deadline", "down", "due", "fell_back", "flag", "gate", "head", "held",
        "held_size", "identity", "importance", "instance", "mirror", "over", "path", "permit",
        "plan", "plan_name", "proxy", "request_id", "rivals", "scopes", "shed", "span_id",
        "started", "status", "stream", "subject", "told", "trace_id", "trace_tail", "tried",
        "tries", "tunnel", "upgrades", "waited",
    )  # fmt: skip

    def __init__(self, proxy: Proxy, down: "Downstream", head: RequestHead, now: float) -> None:
        self.proxy: Proxy = proxy
        self.down: Downstream = down
        self.head: RequestHead = head
        self.path: bytes = head.path  # as the service gets it
        self.started: float = now
        self.deadline: float = NEVER  # of the whole
        self.due: float = NEVER  # when somebody must look again; never behind the deadline
        self.plan: Plan | None = None
        self.cluster: Cluster | None = None  # who is asked
        self.client: str = down.peer
        self.subject: str = ""
        self.scopes: tuple[str, ...] = ()
        self.plan_name: str = ""  # what the caller has bought
        self.identity: bytes = b""  # header lines about caller and arm, for the service
        self.told: bytes = b""  # header lines for the client, each with its line end
        self.coder: Coder | None = None  # what the answer's body goes through
        self.trace_id, self.span_id = proxy.ids.pair()
        self.trace_tail: bytes = spans.SAMPLED  # behind the ids: flags and state
        self.request_id: bytes = self.trace_id
        self.attempt: Attempt | None = None  # the one under way
        self.rivals: list[Attempt] = NONE  # others beside it: hedges
        self._timer: asyncio.TimerHandle | None = None  # for a hedge, or the wait before a retry
        self.permit: Permit | None = None  # of the cluster
        self.gate: Gate | None = None
        self.importance: str = ""  # in the gate; none if no place is held there
        self.arm: PlannedArm | None = None  # of a split
        self.mirror: Mirroring | None = None  # what copies the request once it is whole
        self.tried: list[Endpoint] = NOBODY
        self.tries: int = 0
        self.instance: bytes = b""  # the id of who was asked last, for the log
        self.body_done: bool = True
        self.held: list[bytes] | None = None
        self.held_size: int = 0
        self._keep: bool = True
        self.bytes_in: int = 0
        self.bytes_out: int = 0
        self.status: int = 0  # of the answer; 0 = none was begun
        self.flag: Flag = NO_FLAG
        self.waited: float = 0.0  # seconds until the answer's head came
        self._gap: float = 0.0  # seconds without a byte that an answer may have; 0 = any
        self.stream: bool = False
        self.tunnel: Tunnel | None = None
        self.upgrades: LimitUpgrades | None = None  # where a place for a tunnel is held
        self.fell_back: bool = False
        self.shed: bool = False  # the service has enough to do, and is well
        self.over: bool = False

    # before the service

    def start(self) -> None:  # noqa: C901 - each step is asked of every request
        """Find the route and ask the filters; then the request is on its way."""
        proxy, head, now = self.proxy, self.head, self.started
        proxy.metrics.active_requests += 1
        if head.boundary or self.down.trusted or proxy.looks_at_all:
            refusal = forwarding.cross_boundary(self, proxy)
            if refusal is not None:
                self.refuse(refusal)
                return
        entry = proxy.routes.find(head)
        if entry is None:
            self.refuse(Answer(status=404, flag=Flag.NO_ROUTE, detail="no route matches"))
            return
        plan = self.plan = entry.value
        if not head.known_method and head.method.decode() not in plan.route.methods:
            self.refuse(answers.unknown_method())
            return
        self._gap = plan.idle_timeout
        deadline = now + plan.total_timeout
        if deadline < self.deadline:
            self.deadline = deadline
        if plan.chain is not None:
            answer = plan.chain.check(self, now)
            if answer is not None:
                self.refuse(answer)
                return
        if head.body:
            if self.down.body_length() > plan.max_body:
                self.too_large()
                return
        elif plan.is_plain and plain.send(self, plan, now):
            return
        if plan.faults is None or not plan.faults.disturbs(self, now):
            dispatch(self, plan, now)

    def cluster_name(self) -> str:
        if self.arm is not None:
            return self.arm.cluster.service
        return "" if self.plan is None else self.plan.cluster.service

    def planned(self) -> Plan:
        plan = self.plan
        assert plan is not None
        return plan

    def asked(self) -> Cluster:
        cluster = self.cluster
        assert cluster is not None
        return cluster

    def _upstream(self) -> Upstream | None:
        attempt = self.attempt
        return None if attempt is None else attempt.upstream

    def identify(self, claims: Claims, lines: bytes) -> None:
        """The caller is known; the service is told in lines that no client can set."""
        self.subject = claims.subject
        self.scopes = claims.scopes
        self.plan_name = claims.plan
        self.identity = lines

    def tell(self, fields: dict[str, str]) -> None:
        """Add fields to the answer, whoever gives it."""
        self.told += "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()

    def too_large(self) -> None:
        self.give_up(answers.too_large(self.planned().max_body))

    # tries

    def try_once(self, cluster: Cluster, now: float) -> None:
        self.tries += 1
        key = "" if cluster.key is None else cluster.key(self)
        picked = cluster.pick(now, self.tried, key)
        if picked is None:
            flag = Flag.UPSTREAM_OVERFLOW if cluster.endpoints else Flag.NO_HEALTHY_UPSTREAM
            self.refuse(answers.unavailable(flag, *cluster.why_none(now)))
            return
        endpoint, permit = picked
        self.attempt = Attempt(self, cluster, endpoint, permit, now)
        self.attempt.begin(now)

    def under_way(self) -> list[Attempt]:
        first = self.attempt
        return self.rivals if first is None else [first, *self.rivals]

    def rearm(self) -> None:
        """Look again when the first of the tries under way has no time left."""
        due = self.deadline
        for attempt in self.under_way():
            due = min(due, attempt.due)
        self.due = due
        self.down.arm(due)

    def not_connected(self, attempt: Attempt, reason: str) -> None:
        """Dialling failed: the request was not sent, so trying elsewhere is safe."""
        detail = f"{self.asked().service}: {reason}"
        answer = answers.unavailable(Flag.UPSTREAM_FAILED, detail, 1.0)
        again.failed(self, attempt, CONNECT, answer, BAD)

    def may_repeat(self) -> bool:
        """Whether the request may be processed twice."""
        return self.planned().retrying.covers(self.head.method, self.head.has(IDEMPOTENCY_KEY))

    def is_replayable(self) -> bool:
        """Whether all that has come of the request is here to be sent again."""
        return self.held is not None or not self.bytes_in

    def is_kept(self) -> bool:
        """Whether the request is whole, and stays here to be sent any number of times."""
        return self.body_done and self.held_size <= REPLAY and self.is_replayable()

    def call_later(self, seconds: float, callback: Callable[["Exchange"], None]) -> None:
        """Call back with this exchange, unless it is over before. One at a time."""
        self._timer = asyncio.get_running_loop().call_later(seconds, callback, self)

    def cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # the request's body

    def accept_body(self) -> None:
        """Take more of it: the instance that had paused it may be gone."""
        if not self.body_done and self.held_size <= REPLAY:
            self.down.resume_reading()

    def hold(self, piece: bytes) -> None:
        """Keep a piece that came before there is a connection, or to send it again."""
        if self.held is None:
            self.held = []
        self.held.append(piece)
        self.held_size += len(piece)
        self.bytes_in += len(piece)

    def take_body(self, piece: bytes, ended: bool) -> None:
        """The next piece of the request's body."""
        self.body_done = ended
        attempt = self.attempt
        upstream = self._upstream()
        if attempt is None or upstream is None:
            self.hold(piece)
            if self.held_size > REPLAY:
                self.down.pause_reading()
            return
        if self.held is not None or not self.bytes_in:
            self.hold(piece)
            if self.held_size > REPLAY:
                self.held = None
        else:
            self.bytes_in += len(piece)
        upstream.transport.write(piece)
        if ended and not self.status:
            attempt.sent(self.proxy.now())

    def held_body(self) -> bytes:
        """What has come so far, to be sent; more than can be kept is not kept any longer."""
        held = self.held
        if held is None:
            return b""
        if self.held_size > REPLAY:
            self.held = None
            self.down.resume_reading()
        return b"".join(held)

    # the answer

    def answered(  # noqa: C901 - as above
        self, attempt: Attempt, head: ResponseHead, piece: bytes, ended: bool
    ) -> None:
        """The answer's head is here, and `piece` of its body."""
        if ended and attempt.is_plain and plain.finish(self, attempt, head, piece):
            return
        now, plan = self.proxy.now(), self.plan
        assert plan is not None
        self.shed = head.status == 503 and head.value(admission.SHED) != b""
        if plan.weighs_answers and again.sets_aside(self, attempt, head, ended, now):
            return
        if plan.finishers and not finished(self, plan.finishers, head):
            return
        if self.coder is not None:
            piece = self.coder.coded(piece, ended)
        self.waited = now - self.started
        self.status = head.status
        keep = self.head.keep_alive and self.body_done and not self.proxy.draining
        if head.body < 0:
            keep = keep and self.head.version_1_1
            if plan.stream or head.is_event_stream():
                self.begin_stream(plan.stream_idle)
        self._keep = keep
        self.bytes_out += len(piece)
        cluster = self.cluster
        if cluster is not None and cluster.watches:
            self.told += cluster.answered(self, attempt.endpoint, attempt.began, now)
        self.down.transport.write(forwarding.answer_bytes(self, head, piece, keep))
        if ended:
            self._complete(now)
            return
        if self._gap or plan.tries_are_timed:
            self.touch(now)
            self.down.arm(self.due)
        if self.down.write_paused:
            self.client_full()

    def begin_stream(self, idle: float) -> None:
        """From here on only silence ends it; and it keeps nobody from being served."""
        self.stream = True
        self.deadline = NEVER
        self._gap = idle
        if self.gate is not None:
            admission.yield_place(self)

    def discard(self, attempt: Attempt, status: int, ended: bool, now: float) -> None:
        """An answer that nobody gets, `ended` or not."""
        verdict = BAD if status >= 500 and not self.shed else NEITHER
        (self._finish if ended else self.leave)(attempt, verdict, now)

    def _finish(self, attempt: Attempt, verdict: int, now: float) -> None:
        """The attempt has its whole answer: its connection can carry another exchange."""
        upstream, attempt.upstream = attempt.upstream, None
        assert upstream is not None
        if verdict == GOOD and not self.rivals:  # which is what almost every one comes to
            attempt.leave(GOOD, self.started + self.waited)
            self.attempt = None
        else:
            self.leave(attempt, verdict, now)
        if self.body_done and not (self.bytes_in and upstream.transport.get_write_buffer_size()):
            upstream.release(now)
        else:
            upstream.close()  # it still has to read a request that it answered already

    def relayed(self, piece: bytes, ended: bool) -> None:
        """The next piece of the answer's body."""
        if self.coder is not None:
            piece = self.coder.coded(piece, ended)
        self.bytes_out += len(piece)
        if piece:
            self.down.transport.write(piece)
        if ended:
            self._complete(self.proxy.now())
        elif self._gap:
            self.touch(self.proxy.now())

    def touch(self, now: float) -> None:
        """A byte came: the next may take as long again."""
        self.due = min(self.deadline, now + self._gap) if self._gap else self.deadline

    def _complete(self, now: float) -> None:
        """The whole answer was passed on."""
        attempt = self.attempt
        assert attempt is not None
        verdict = GOOD if self.status < 500 else NEITHER if self.shed else BAD
        self._finish(attempt, verdict, now)
        self.end(now, verdict)
        self.down.finished(self._keep, now)

    def client_ended(self) -> None:
        """The client has ended its side, and may still read."""
        self._keep = False
        self.deadline = min(self.deadline, self.proxy.now() + self.proxy.edge.half_close)
        self.due = min(self.due, self.deadline)
        self.down.arm(self.due)

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
        now = self.proxy.now()
        if self.tunnel is not None:
            self.tunnel.end(now)
        else:
            again.lost(self, attempt, served, now)

    def upstream_misbehaved(self, attempt: Attempt, reason: str) -> None:
        """What the instance sent is not HTTP; its connection is closed already."""
        now = self.proxy.now()
        self.leave(attempt, BAD, now)
        if self.status:
            self.broken(Flag.UPSTREAM_PROTOCOL, now, BAD)
        elif self.attempt is None:
            detail = f"the instance's answer is not HTTP: {reason}"
            self.refuse(Answer(status=502, flag=Flag.UPSTREAM_PROTOCOL, detail=detail), BAD)

    def give_up(self, answer: Answer) -> None:
        """End for a reason that is the client's: an answer, or if one was begun, a broken one."""
        now = self.proxy.now()
        self.drop(now, NEITHER)
        if self.status:
            self.broken(answer.flag, now, NEITHER)
        else:
            self.refuse(answer)

    def client_gone(self, flag: Flag) -> None:
        """The client's connection is closed; nobody wants the answer."""
        if self.over:
            return
        now = self.proxy.now()
        self.drop(now, NEITHER if self.tunnel is None else GOOD)
        self.flag = flag if self.tunnel is None else Flag.NONE
        if not self.status:
            self.status = answers.CLIENT_LEFT
        self.end(now, NEITHER)

    def drop(self, now: float, verdict: int) -> None:
        """Close what connections there are in the midst of it."""
        attempts = self.under_way()
        self.attempt, self.rivals = None, NONE
        for attempt in attempts:
            attempt.drop(verdict, now)

    def broken(self, flag: Flag, now: float, verdict: int) -> None:
        """End an answer that was begun so that the client sees that it is not whole."""
        self.flag = flag
        self.end(now, verdict)
        self.down.abort()

    def refuse(self, answer: Answer, verdict: int = NEITHER) -> None:
        """Answer in place of the service, and end; `verdict` is on the service."""
        now, plan = self.proxy.now(), self.plan
        if plan is not None and plan.fallback is not None and answer.flag in plan.fallback.flags:
            self.flag = answer.flag
            if fallback.stand_in(self, answer.flag.value, verdict, now):
                return
        self.status = answer.status
        self.flag = answer.flag
        keep = not answer.close and self.may_keep()
        self.down.write(forwarding.refusal_bytes(self, answer, keep))
        self.end(now, verdict)
        self.down.finished(keep, now)

    def may_keep(self) -> bool:
        """Whether another request can follow an answer of our own."""
        keep = self.head.keep_alive and not self.proxy.draining
        return keep and self.down.can_continue()

    def leave(self, attempt: Attempt, verdict: int, now: float) -> None:
        """The attempt is over, and says how its instance did."""
        if verdict != GOOD:
            self.tried = [*self.tried, attempt.endpoint]
        at = now if verdict != GOOD else self.started + self.waited
        if attempt.upstream is None:
            attempt.leave(verdict, at)
        else:
            attempt.drop(verdict, at)
        if not self.rivals:
            self.attempt = None
        elif self.attempt is attempt:
            self.attempt, self.rivals = self.rivals[0], self.rivals[1:]
        else:
            self.rivals = [rival for rival in self.rivals if rival is not attempt]

    def leave_cluster(self, verdict: int, now: float) -> None:
        permit, cluster = self.permit, self.cluster
        if permit is not None and cluster is not None:
            self.permit = None
            # What follows an answer's head is the reader's time, not the service's.
            cluster.leave(permit, verdict, self.started + self.waited if verdict == GOOD else now)

    def end(self, now: float, verdict: int) -> None:
        self.over = True
        self.held = None
        if self.coder is not None:
            self.coder.close()
        if self.upgrades is not None:
            self.upgrades.leave()
        proxy, plan = self.proxy, self.plan
        metrics = proxy.metrics
        metrics.active_requests -= 1
        seconds = now - self.started
        if plan is None:
            metrics.unrouted.observe(self.head.method, self.status, seconds)
        else:
            found = plan.metrics if self.arm is None else self.arm.metrics
            found.observe(self.head.method, self.status, seconds)
            self.leave_cluster(verdict, now)
            if self.gate is not None:
                self.gate.leave(self.importance)
            if self._timer is not None:
                self.cancel_timer()
        records.tell(self, now)
