"""Where a project as a whole is, and the facts of its getting there."""

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    STARTING = "starting"  # not everything has been ready yet
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class ProjectReady:
    """Every replica of every service has become ready."""

    after: float  # seconds
    services: tuple[tuple[str, int], ...]  # and how many replicas each has
    url: str | None  # the gateway's


@dataclass(frozen=True, slots=True)
class TookOver:
    """A supervisor before this one was killed; what it had started goes on under this one."""

    processes: int


@dataclass(frozen=True, slots=True)
class ProjectWaiting:
    """Not everything is ready; these hold up the rest."""

    after: float  # seconds
    reasons: tuple[tuple[str, str], ...]  # service, why


@dataclass(frozen=True, slots=True)
class ProjectStopping:
    why: str


@dataclass(frozen=True, slots=True)
class ProjectStopped:
    """Every process has ended."""

    after: float  # seconds since it began to stop
