"""The tables of a route that spread, copy and disturb its requests."""

from typing import Any

from pydantic import Field, model_validator

from seawall.spec.part import Part
from seawall.topology import Constraint

Percent = Field(default=100.0, ge=0, le=100)


class WhenSpec(Part):
    """What a request says: all of it is equal; "*" = is there."""

    headers: dict[str, str] = {}
    cookies: dict[str, str] = {}


class _Target(Part):
    service: str
    version: str = "*"

    @model_validator(mode="after")
    def _readable(self) -> "_Target":
        Constraint.parse(self.version)
        return self


class ArmSpec(_Target):
    """One way that a split sends requests: by `weight`, and whatever `match` says."""

    weight: int = Field(default=0, ge=0)
    match: WhenSpec = WhenSpec()
    name: str | None = None  # told to the service in x-arm; service and version without it


class StickySpec(Part):
    """How who asks is known again where nobody is authenticated: by a cookie, or if it has no
    name, by the address."""

    cookie: str = "seawall-arm"
    ttl: int = Field(default=30 * 24 * 3600, ge=0)  # seconds; 0 = as long as the browser runs
    secure: bool = False


class SplitSpec(Part):
    """Arms that share requests by weight, always the same for who comes again. In short, a list
    of the arms."""

    arms: list[ArmSpec]
    sticky: StickySpec = StickySpec()
    fallback: bool = True  # the others stand in for an arm without an instance
    experiment: str | None = None  # routes with the same one agree
    tell: bool = False  # the client too

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, given: Any) -> Any:
        return {"arms": given} if isinstance(given, list) else given


class MirrorSpec(_Target):
    """Copies of a part of the requests go to a service whose answers nobody gets."""

    percent: float = Percent
    max_in_flight: int = Field(default=16, ge=1, le=1024)
    timeout: float = Field(default=15.0, gt=0, le=300)  # seconds


class DelaySpec(Part):
    seconds: float = Field(ge=0, le=300)
    jitter: float = Field(default=0.0, ge=0, le=300)  # up to so much more
    percent: float = Percent


class AbortSpec(Part):
    """An answer with `status`, or with `reset` a closed connection."""

    status: int = 503
    reset: bool = False
    percent: float = Percent


class FaultsSpec(Part):
    """What is done to requests on purpose: to those that `match`, and with `trusted` only to
    those from `trusted_proxies`."""

    delay: DelaySpec | None = None
    abort: AbortSpec | None = None
    match: WhenSpec = WhenSpec()
    trusted: bool = False
