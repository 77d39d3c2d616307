"""What a route says of times, retries, hedges and fallbacks: tables inside `[[gateway.routes]]`.

Names and meanings are those of the gateway's own configuration, which checks the values.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from seawall.spec.part import Part

# "p95": what all but one in twenty answers need at most.
Percentile = Annotated[str, StringConstraints(pattern=r"^p[1-9][0-9]?(\.[0-9]+)?$")]


class TimeoutsSpec(Part):
    """Seconds; 0 = no such limit. The whole is the route's `timeout`."""

    connect: float = 1.0
    first_byte: float = 0.0
    per_try: float = 0.0
    idle: float = 0.0
    stream_idle: float = 300.0


class BackoffSpec(Part):
    base: float = 0.025  # seconds
    cap: float = 0.25  # seconds


class RetrySpec(Part):
    attempts: int = Field(default=0, ge=0, le=10)  # in all; 0 = as many as the service allows
    on: list[str | int] = ["connect", "reset", "timeout"]  # or statuses: 503
    methods: Literal["idempotent", "all"] | list[str] = "idempotent"
    backoff: BackoffSpec = BackoffSpec()
    patience: float = 1.0  # seconds; a longer Retry-After is passed on


class HedgeSpec(Part):
    after: float | Percentile = "p95"  # seconds, or what is usual
    max: int = Field(default=1, ge=1, le=3)
    ratio: float = Field(default=0.1, ge=0, le=1)  # of the requests
    floor: float = Field(default=1.0, ge=0)  # hedges a second always allowed


class FallbackSpec(Part):
    """Either a service that is asked the same, or an answer."""

    service: str = ""
    status: int = 200
    body: str = ""
    content_type: str = "application/json"
    headers: dict[str, str] = {}
    on: list[str | int] = ["open", "no_instance", "failed", "timeout"]  # or statuses: 503
