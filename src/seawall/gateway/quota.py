"""Rate limits of a route: GCRA for each identity, each address, or the route as a whole."""

import math
from typing import TYPE_CHECKING

from seawall.gateway.answers import Answer, Flag
from seawall.gateway.config import Limit, LimitBy
from seawall.resilience.limiter import KeyedLimiter

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange


class Quota:
    """A filter that counts. What is left is told in every answer (IETF `RateLimit` fields)."""

    __slots__ = ("_by", "_label", "_limiter", "_policy")

    def __init__(self, limit: Limit, label: str) -> None:
        self._by: LimitBy = limit.by
        self._label: str = label
        self._limiter: KeyedLimiter = KeyedLimiter(limit.rate, limit.burst)
        window = max(1, math.ceil(limit.burst / limit.rate))
        self._policy: str = f'"{limit.by}";q={limit.burst};w={window}'

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        verdict = self._limiter.acquire(self._key(exchange), now)
        fields = {
            "ratelimit-policy": self._policy,
            "ratelimit": f'"{self._by}";r={verdict.remaining};t={math.ceil(verdict.reset)}',
        }
        if verdict.allowed:
            exchange.tell(fields)
            return None
        return Answer(
            status=429,
            flag=Flag.RATE_LIMITED,
            detail=f"more requests than {self._label} allows by {self._by}",
            retry_after=verdict.retry_after,
            retryable=True,
            headers=fields,
        )

    def _key(self, exchange: "Exchange") -> str:
        if self._by is LimitBy.ROUTE:
            return ""
        if self._by is LimitBy.IDENTITY and exchange.subject:
            return "subject " + exchange.subject
        return exchange.client
