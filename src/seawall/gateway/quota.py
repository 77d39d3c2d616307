"""How much of it: the limits of a route and of the caller's plan, as one filter.

All limits of a request must allow it. Each is asked; where one refuses, those that allowed get
the call back at once, so that a refused request uses up nothing.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from seawall.gateway.answers import Answer, Flag
from seawall.gateway.limits import Algorithm, Limit, LimitBy
from seawall.resilience.limiter import KeyedLimiter, Verdict
from seawall.resilience.rate_fields import (
    LIMIT,
    POLICY,
    limit_field,
    policy_field,
)
from seawall.resilience.sharing import SharedLimiter, WhenAway
from seawall.resilience.sliding import KeyedWindow

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

Limiter = KeyedLimiter | KeyedWindow | SharedLimiter


def limiter(limit: Limit, processes: int) -> Limiter:
    """What counts for `limit` in one of so many processes."""
    if limit.algorithm is Algorithm.SLIDING_WINDOW:
        return KeyedWindow(limit.requests, limit.window)
    if limit.shared:
        return SharedLimiter(
            limit.rate, limit.burst, when_away=limit.when_away, processes=processes
        )
    return KeyedLimiter(limit.rate, limit.burst)


class Rule:
    """A limit at its place: a route, or a plan that many routes hold to."""

    __slots__ = (
        "_by",
        "by_address",
        "limit",
        "limiter",
        "name",
        "policy",
        "refused",
        "told",
        "where",
    )

    def __init__(self, limit: Limit, where: str, name: str, limiter: Limiter) -> None:
        self.limit: Limit = limit
        self.where: str = where
        self.name: str = name
        self.limiter: Limiter = limiter
        self.policy: str = policy_field(name, limiter)
        self.told: bytes = f'{LIMIT}: "{name}";r='.encode()  # what is left, for an answer's head
        self.refused: int = 0
        self._by: LimitBy = limit.by
        self.by_address: bool = limit.by is LimitBy.ADDRESS

    def acquire(self, exchange: "Exchange", now: float) -> Verdict:
        key = exchange.client if self.by_address else self.key(exchange)
        return self.limiter.acquire(key, now)

    def give_back(self, exchange: "Exchange", now: float) -> None:
        self.limiter.give_back(self.key(exchange), now)

    def key(self, exchange: "Exchange") -> str:
        if self._by is LimitBy.ROUTE:
            return ""
        if self._by is LimitBy.IDENTITY and exchange.subject:
            return "subject " + exchange.subject
        if self._by is LimitBy.PLAN:
            return exchange.plan_name
        return exchange.client

    def inherit(self, before: "Rule", now: float) -> None:
        """Go on with what another rule has counted, where that means the same here."""
        self.refused = before.refused
        limit, counted = self.limit, before.limiter
        if limit.by is not before.limit.by or limit.when_away is not before.limit.when_away:
            return
        if isinstance(counted, KeyedWindow):
            if not isinstance(self.limiter, KeyedWindow) or limit.window != counted.window:
                return
            counted.replace(limit.requests)
        elif isinstance(self.limiter, KeyedWindow) or limit.shared != before.limit.shared:
            return
        else:
            counted.replace(limit.rate, limit.burst, now)
        self.limiter = counted

    def refusal(self, verdict: Verdict, fields: dict[str, str], now: float) -> Answer:
        self.refused += 1
        limiter = self.limiter
        closed = (
            isinstance(limiter, SharedLimiter)
            and limiter.when_away is WhenAway.CLOSED
            and limiter.is_away(now)
        )
        if closed:
            detail = f"the limit of {self.where} by {self.name} cannot be counted now"
        else:
            detail = f"more requests than {self.where} allows by {self.name}"
        return Answer(
            status=503 if closed else 429,
            flag=Flag.RATE_LIMITED,
            detail=detail,
            retry_after=verdict.retry_after,
            retryable=True,
            headers={} if closed else fields,
        )


class Quota:
    """A filter that counts. The tightest limit is told in every answer (IETF `RateLimit`)."""

    __slots__ = ("_first", "_others", "_policy", "_told", "rules")

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules: tuple[Rule, ...] = rules
        self._first: Rule = rules[0]
        self._others: bool = len(rules) > 1
        self._policy: str = ", ".join(rule.policy for rule in rules)
        self._told: bytes = f"{POLICY}: {self._policy}\r\n".encode()

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        rule = self._first
        key = exchange.client if rule.by_address else rule.key(exchange)
        verdict = rule.limiter.acquire(key, now)
        if self._others:
            rule, verdict = self._tightest(exchange, verdict, now)
        if verdict.allowed:
            exchange.told = b"%b%b%b%d;t=%d\r\n" % (
                exchange.told,
                self._told,
                rule.told,
                verdict.remaining,
                -int(-verdict.reset // 1.0),  # whole seconds, and not fewer
            )
            return None
        fields = {POLICY: self._policy, LIMIT: limit_field(rule.name, verdict)}
        return rule.refusal(verdict, fields, now)

    def _tightest(self, exchange: "Exchange", first: Verdict, now: float) -> tuple[Rule, Verdict]:
        """Ask the others too; the limit that decides, and its verdict.

        Of those that refuse it is the one that does so longest, so that who waits as long as
        told is admitted by all; if none does, the one with the fewest calls left.
        """
        rules = self.rules
        rule, tightest = rules[0], first
        verdicts = [first]
        for other in rules[1:]:
            verdict = other.acquire(exchange, now)
            verdicts.append(verdict)
            if _is_tighter(verdict, tightest):
                rule, tightest = other, verdict
        if not tightest.allowed:
            for index in range(len(rules)):
                if verdicts[index].allowed:
                    rules[index].give_back(exchange, now)
        return rule, tightest


def _is_tighter(one: Verdict, than: Verdict) -> bool:
    if one.allowed != than.allowed:
        return than.allowed
    if one.allowed:
        return one.remaining < than.remaining
    return one.retry_after > than.retry_after


class PlanQuota:
    """A filter that counts by the caller's plan; who has none, or an unknown one, has the default.

    A plan's limits are counted over all routes that hold to plans.
    """

    __slots__ = ("_default", "_plans")

    def __init__(self, plans: Mapping[str, Quota | None], default: str) -> None:
        self._plans: dict[str, Quota | None] = dict(plans)  # None = as much as they like
        self._default: str = default

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        if exchange.plan_name not in self._plans:
            exchange.plan_name = self._default
        quota = self._plans[exchange.plan_name]
        return None if quota is None else quota(exchange, now)


class Counters:
    """Every rule of one gateway, once. Routes that hold to one plan share its counters."""

    __slots__ = ("_before", "_found", "_heirs", "_next", "_places", "processes")

    def __init__(self, processes: int = 1) -> None:
        self._found: dict[tuple[str, str, Limit], Rule] = {}
        self._next: dict[tuple[str, str, Limit], Rule] = self._found
        self._before: dict[tuple[str, str], Rule] = {}  # by place and name, while drafting
        self._heirs: list[tuple[Rule, Rule]] = []  # who takes over, and from whom
        self._places: dict[str, int] = {}
        self.processes: int = processes  # at least so many keep the shared limits

    def draft(self) -> None:
        """The rules that are asked for from now on are those of another configuration."""
        self._next = {}
        self._places = {}
        self._before = {(rule.where, rule.name): rule for rule in self._found.values()}
        self._heirs = []

    def adopt(self, now: float) -> None:
        """They hold now. A rule whose limit is the same goes on counting; where only its numbers
        changed, what was counted is taken over; those that were not asked for are dropped."""
        for heir, before in self._heirs:
            heir.inherit(before, now)
        self._found = self._next
        self._before, self._heirs = {}, []

    def place(self, label: str) -> str:
        """Where the limits of the next route with this label are: labels may repeat, places not.

        Gateways with one configuration give one route the same place.
        """
        number = self._places[label] = self._places.get(label, 0) + 1
        return label if number == 1 else f"{label} #{number}"

    def rule(self, limit: Limit, where: str, name: str) -> Rule:
        """The rule of that name at that place; the same one as long as its limit is the same."""
        key = (where, name, limit)
        rule = self._next.get(key) or self._found.get(key)
        if rule is None:
            rule = Rule(limit, where, name, limiter(limit, self.processes))
            before = self._before.get((where, name))
            if before is not None:
                self._heirs.append((rule, before))
        self._next[key] = rule
        return rule

    def rules(self) -> list[Rule]:
        return list(self._found.values())

    def drafted(self) -> list[Rule]:
        return list(self._next.values())
