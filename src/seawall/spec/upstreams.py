"""The tables `[gateway.upstreams.NAME]`: how the instances of a service are treated.

What a table does not name is as in `[gateway.upstreams."*"]`, and what that does not name as the
gateway has it (`seawall.gateway.config.Upstreams`, whose fields have the same names and meanings).
"""

from typing import Literal

from pydantic import Field

from seawall.spec.part import Part


class BreakerSpec(Part):
    failure_rate: float | None = None  # of the answers in the window
    consecutive_failures: int | None = None
    min_calls: int | None = None
    window: float | None = None  # seconds
    open_for: float | None = None  # seconds
    open_for_max: float | None = None  # seconds
    slow_after: float | None = None  # seconds; a slower answer counts as a failure


class AdaptiveSpec(Part):
    kind: Literal["gradient2", "vegas", "aimd", "fixed"] = "gradient2"
    initial: int = 20
    minimum: int = 20
    maximum: int = 200
    window: float = 1.0  # seconds of answers that make one sample


class OutliersSpec(Part):
    consecutive_failures: int = 3
    eject_for: float = 10.0  # seconds, doubled by each further ejection
    eject_for_max: float = 300.0  # seconds
    max_ejected: float = 0.5  # of the instances


class StickySpec(Part):
    cookie: str = "seawall-instance"
    ttl: float = 0.0  # seconds; 0 = until the browser is closed
    path: str = "/"
    secure: bool = False
    secret: str = ""


class SlowStartSpec(Part):
    window: float = 30.0  # seconds
    aggression: float = 1.0
    floor: float = 0.1  # of the weight


class LocalitySpec(Part):
    zone: str = ""  # the gateway's own if empty
    panic: float = 0.5  # of the instances; with fewer that are well, all are asked
    overprovisioning: float = 1.4
    min_instances: int = 6  # with fewer, zones do not matter


class HealthSpec(Part):
    path: str = "/readyz"
    interval: float = 5.0  # seconds
    timeout: float = 1.0  # seconds
    unhealthy: int = 3  # failures in a row
    healthy: int = 2  # passes in a row
    port: int = 0  # 0 = where it serves
    expect: list[int] = [200]


class UpstreamsSpec(Part):
    idle_timeout: float | None = Field(default=None, gt=0)  # seconds
    max_connections: int | None = Field(default=None, ge=1)  # to one instance
    max_requests: int | None = Field(default=None, ge=1)  # under way to the service
    attempts: int | None = Field(default=None, ge=1, le=10)
    retry_ratio: float | None = Field(default=None, ge=0, le=1)  # of the requests
    retry_floor: float | None = Field(default=None, ge=0)  # retries a second always allowed
    breaker: BreakerSpec | None = None  # of the service
    instance_breaker: BreakerSpec | None = None
    outliers: OutliersSpec | None = None
    adaptive: AdaptiveSpec | None = None
    balancing: (
        Literal["round-robin", "weighted", "least-request", "peak-ewma", "consistent-hash"] | None
    ) = None
    # What keys are: "header:x-tenant", "cookie:cart", "query:q", address, identity or path.
    hash_on: str | None = None
    hash_bound: float | None = None  # times the average load
    sticky: StickySpec | None = None
    slow_start: SlowStartSpec | None = None
    locality: LocalitySpec | None = None
    health: HealthSpec | None = None
