"""Which arm of a split a request takes: the same one on every gateway, each time it comes.

Each arm is at a distance from each key, by a hash of both; the nearest has it (weighted
rendezvous hashing). A weight divides its arm's distances. So shares are exact, and raising one
weight only brings keys to that arm: nobody moves between the others, and nobody leaves it.
"""

import json
import re
from hashlib import blake2b
from math import log
from typing import TYPE_CHECKING, Final

from seawall.gateway.choice import COOKIE, Sign, said, says, signs
from seawall.gateway.clusters import Cluster
from seawall.gateway.metrics import RouteMetrics
from seawall.gateway.traffic import Arm, Split
from seawall.wire.http1 import RequestHead
from seawall.wire.trace import Ids

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

_FAR: Final = float("inf")
# A cookie of ours; others are replaced, so that none can be long.
_TOKEN: Final = re.compile(rb"[0-9a-f]{32}")
_TOKEN_DIGITS: Final = 32


class Share:
    """The part of all keys that a weight stands for. Pure."""

    __slots__ = ("_seed", "weight")

    def __init__(self, experiment: str, name: str, weight: int) -> None:
        text = f"{len(experiment)} {experiment} {name}".encode()
        self._seed: bytes = blake2b(text, digest_size=32).digest()
        self.weight: int = weight

    def distance(self, key: bytes) -> float:
        """How far the key is; of several shares the nearest has it."""
        if not self.weight:
            return _FAR
        digest = blake2b(key, digest_size=7, key=self._seed).digest()
        # Uniform above 0 and up to 1, so its logarithm is exponential, and the least of several
        # exponentials is each one's with the probability of its rate: the weight.
        drawn = (int.from_bytes(digest, "big") + 1) / (1 << 56)
        return -log(drawn) / self.weight


class PlannedArm:
    """An arm, with everything that is found out about it before any request."""

    __slots__ = ("cluster", "line", "log_label", "metrics", "name", "share", "signs")

    def __init__(self, arm: Arm, experiment: str, cluster: Cluster, metrics: RouteMetrics) -> None:
        self.name: str = arm.label
        self.cluster: Cluster = cluster
        self.metrics: RouteMetrics = metrics
        self.share: Share = Share(experiment, arm.label, arm.weight)
        self.signs: tuple[Sign, ...] = signs(arm.match.headers, {}, arm.match.cookies)
        self.line: bytes = f"x-arm: {arm.label}\r\n".encode()
        self.log_label: bytes = (
            f'"route":{json.dumps(metrics.label)},"service":{json.dumps(arm.service)},'
            f'"arm":{json.dumps(arm.label)}'
        ).encode()

    def is_forced(self, head: RequestHead) -> bool:
        return bool(self.signs) and says(head, self.signs)


class Splitter:
    """Sends requests to the arms of a route."""

    __slots__ = (
        "_cookie",
        "_draws",
        "_falls_over",
        "_ids",
        "_set_cookie",
        "_tail",
        "_tells",
        "arms",
    )

    def __init__(self, split: Split, arms: tuple[PlannedArm, ...], ids: Ids) -> None:
        self.arms: tuple[PlannedArm, ...] = arms
        self._ids: Ids = ids
        self._falls_over: bool = split.fallback
        self._tells: bool = split.tell
        self._cookie: bytes = split.cookie.encode()
        self._set_cookie: bytes = b"set-cookie: %b=" % self._cookie
        age = f"; Max-Age={split.cookie_ttl}" if split.cookie_ttl else ""
        secure = "; Secure" if split.secure else ""
        self._tail: bytes = f"; Path=/{age}; HttpOnly; SameSite=Lax{secure}\r\n".encode()
        # With one arm that has a weight, it does not matter who asks.
        self._draws: bool = sum(arm.weight > 0 for arm in split.arms) > 1

    def send(self, exchange: "Exchange") -> Cluster:
        """Say to whom the request goes, to all who are to know of it."""
        arm = exchange.arm = self._arm(exchange)
        exchange.identity += arm.line
        if self._tells:
            exchange.told += arm.line
        return arm.cluster

    def _arm(self, exchange: "Exchange") -> PlannedArm:
        for arm in self.arms:
            if arm.is_forced(exchange.head) and (arm.cluster.endpoints or not self._falls_over):
                return arm
        return self.nearest(self._key(exchange) if self._draws else b"")

    def nearest(self, key: bytes) -> PlannedArm:
        """The arm of a key; of those with an instance, if there is one and others stand in."""
        best = self.arms[0]
        least, there = _FAR, False
        for arm in self.arms:
            distance = arm.share.distance(key)
            up = not self._falls_over or bool(arm.cluster.endpoints)
            if distance < _FAR and (up > there or (up == there and distance < least)):
                best, least, there = arm, distance, up
        return best

    def _key(self, exchange: "Exchange") -> bytes:
        """Who asks; the three kinds are never taken for each other."""
        if exchange.subject:
            return b"subject " + exchange.subject.encode("utf-8", "replace")
        if not self._cookie:
            return b"address " + exchange.client.encode("utf-8", "replace")
        for value in said(exchange.head, COOKIE, self._cookie):
            if _TOKEN.fullmatch(value):
                return b"cookie " + value
        token = self._ids.take(_TOKEN_DIGITS)
        exchange.told += self._set_cookie + token + self._tail
        return b"cookie " + token
