"""How a route's requests are spread, copied and disturbed. Frozen values, checked once.

What does it is in `splitting`, `mirroring` and `faults`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from seawall.errors import Misconfigured
from seawall.topology import ANY, Constraint
from seawall.wire.headers import is_token

# Each costs a request one hash, about a microsecond.
MAX_ARMS: Final = 16
# It stands in a header field, a log line and a label.
_NAME: Final = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?")
# A copy holds up to 64 KB and a connection.
MAX_COPIES: Final = 1024
# A connection that is held back is a file descriptor of ours.
MAX_DELAY: Final = 300.0  # seconds
_STATUSES: Final = frozenset(status.value for status in HTTPStatus if status >= 200)


@dataclass(frozen=True, kw_only=True, slots=True)
class When:
    """What a request says: every header and cookie is equal; "*" = is there."""

    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.headers, *self.cookies):
            if not name.isascii() or not is_token(name.encode()):
                raise Misconfigured(f"match: {name!r} is no name of a field or a cookie")

    def __bool__(self) -> bool:
        return bool(self.headers or self.cookies)


ALWAYS: Final = When()


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way that a split sends requests: a service, in some versions."""

    service: str
    version: Constraint = ANY
    weight: int = 0  # its part of the sum of all weights
    match: When = ALWAYS  # what is asked so comes here, whatever the weights
    name: str = ""  # to service, log and metrics; service and version if empty

    def __post_init__(self) -> None:
        if not self.service:
            raise Misconfigured("split: an arm has no service")
        if self.weight < 0:
            raise Misconfigured(
                f"split: {self.label} has the weight {self.weight}", fix="0 or more"
            )
        if not _NAME.fullmatch(self.label):
            raise Misconfigured(f"split: {self.label!r} is no name", fix="1 to 64 letters")

    @property
    def label(self) -> str:
        return self.name or f"{self.service}@{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Arms that share a route's requests by weight. Who came to one arm comes to it again.

    A hash of who asks and of the experiment decides, so all gateways agree. Who asks is the
    authenticated subject; where nobody is known, who carries the cookie, which is set for that;
    and without a cookie the address.
    """

    arms: tuple[Arm, ...]
    cookie: str = "seawall-arm"  # none if empty
    cookie_ttl: int = 30 * 24 * 3600  # seconds; 0 = as long as the browser runs
    secure: bool = False  # the cookie comes back over TLS only
    fallback: bool = True  # the others stand in for an arm that has no instance
    experiment: str = ""  # routes with the same one agree; the route's own if empty
    tell: bool = False  # the client too, in `x-arm`

    def __post_init__(self) -> None:
        labels = [arm.label for arm in self.arms]
        if not 2 <= len(labels) <= MAX_ARMS:
            raise Misconfigured(f"split: {len(labels)} arms", fix=f"2 to {MAX_ARMS}")
        if len(set(labels)) < len(labels):
            raise Misconfigured(f"split: two arms are called alike: {labels}", fix="name them")
        if not any(arm.weight for arm in self.arms):
            raise Misconfigured("split: no arm has a weight", fix="weight = 1 or more")
        if self.cookie and (not self.cookie.isascii() or not is_token(self.cookie.encode())):
            raise Misconfigured(f"split: {self.cookie!r} is no name of a cookie")
        if self.cookie_ttl < 0:
            raise Misconfigured(f"split: cookie_ttl is {self.cookie_ttl}", fix="0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirror:
    """Copies of a part of a route's requests go to another service; its answers to nobody."""

    service: str
    version: Constraint = ANY
    percent: float = 100.0
    max_in_flight: int = 16  # above it requests are not copied
    timeout: float = 15.0  # seconds for a copy and its whole answer

    def __post_init__(self) -> None:
        if not self.service:
            raise Misconfigured("mirror: it has no service")
        _check_percent("mirror", self.percent)
        if not 1 <= self.max_in_flight <= MAX_COPIES:
            raise Misconfigured(
                f"mirror: max_in_flight is {self.max_in_flight}", fix=f"1 to {MAX_COPIES}"
            )
        if not 0 < self.timeout <= MAX_DELAY:
            raise Misconfigured(f"mirror: timeout is {self.timeout}", fix=f"up to {MAX_DELAY:g} s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Delay:
    """Hold requests back for `seconds`, and up to `jitter` more."""

    seconds: float
    jitter: float = 0.0
    percent: float = 100.0

    def __post_init__(self) -> None:
        _check_percent("delay", self.percent)
        if self.seconds < 0 or self.jitter < 0 or not 0 < self.longest <= MAX_DELAY:
            raise Misconfigured(
                f"delay: {self.seconds} s and {self.jitter} s", fix=f"up to {MAX_DELAY:g} s in all"
            )

    @property
    def longest(self) -> float:
        return self.seconds + self.jitter


@dataclass(frozen=True, kw_only=True, slots=True)
class Abort:
    """Answer requests with `status`, or with nothing: `reset` closes their connection."""

    status: int = 503
    reset: bool = False
    percent: float = 100.0

    def __post_init__(self) -> None:
        _check_percent("abort", self.percent)
        if self.status not in _STATUSES:
            raise Misconfigured(f"abort: {self.status} is no status of an answer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Faults:
    """What a route does to its requests on purpose: a delay, then an end."""

    delay: Delay | None = None
    abort: Abort | None = None
    match: When = ALWAYS  # only to requests that say so
    trusted: bool = False  # and only from `trusted_proxies`

    def __post_init__(self) -> None:
        if self.delay is None and self.abort is None:
            raise Misconfigured("faults: there are none", fix="delay or abort")


def _check_percent(what: str, percent: float) -> None:
    if not 0 <= percent <= 100:
        raise Misconfigured(f"{what}: percent is {percent}", fix="0 to 100")
