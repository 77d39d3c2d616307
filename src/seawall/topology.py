"""What is: services, versions, and the instances that run now.

Frozen values shared by registry, client, gateway and supervisor. What *should* be is
`seawall.spec`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

from semver import Version

from seawall.errors import Misconfigured, NoInstance

# A DNS label (RFC 1123), because a service's name becomes a host name on Kubernetes.
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def service_name(text: str) -> str:
    """Return `text` if it can name a service; raise `Misconfigured` otherwise."""
    if not _SERVICE_NAME.fullmatch(text):
        raise Misconfigured(
            f"{text!r} cannot name a service",
            fix="lower-case letters, digits and '-', starting with a letter, 63 characters at most",
        )
    return text


@lru_cache(maxsize=1024)  # versions in sight at once: services x releases, far fewer
def parse_version(text: str) -> Version:
    """Read a version by SemVer 2; `1.4` means `1.4.0`. Raises `Misconfigured`."""
    try:
        return Version.parse(text, optional_minor_and_patch=True)
    except (ValueError, TypeError) as exc:
        raise Misconfigured(
            f"{text!r} is not a version", fix="MAJOR.MINOR.PATCH, for example 1.4.0"
        ) from exc


_PART = re.compile(r"(\^|~|>=|<=|>|<|==?|!=)?\s*([0-9][0-9A-Za-z.+-]*)")

_COMPARE: Mapping[str, Callable[[Version, Version], bool]] = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@dataclass(frozen=True, slots=True)
class Constraint:
    """Which versions will do.

    `^1.2` = from 1.2.0 below 2.0.0 (below 0.3.0 for `^0.2`) · `~1.4` = from 1.4.0 below 1.5.0 ·
    `>=1.2,<2` = both · `1.4.2` = that one · `*` = any. A prerelease satisfies a constraint only
    if the constraint names a prerelease of the same MAJOR.MINOR.PATCH (as npm and Cargo do).
    """

    text: str
    bounds: tuple[tuple[str, Version], ...]

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(text: str) -> "Constraint":
        """Read a constraint; raises `Misconfigured`."""
        bounds: list[tuple[str, Version]] = []
        for part in () if text.strip() in ("", "*") else text.split(","):
            match = _PART.fullmatch(part.strip())
            if match is None:
                raise Misconfigured(
                    f"{text!r} is not a version constraint", fix="^1.2, ~1.4, >=1.2,<2, 1.4.2 or *"
                )
            bounds += _bounds(match[1] or "=", match[2])
        return Constraint(text, tuple(bounds))

    def allows(self, version: Version) -> bool:
        if version.prerelease and not any(
            bound.prerelease and bound.finalize_version() == version.finalize_version()
            for _, bound in self.bounds
        ):
            return False
        return all(_COMPARE[operator](version, bound) for operator, bound in self.bounds)

    def __str__(self) -> str:
        return self.text


ANY = Constraint.parse("*")


def _bounds(operator: str, text: str) -> list[tuple[str, Version]]:
    low = parse_version(text)
    if operator == "~":
        return [(">=", low), ("<", low.bump_minor() if "." in text else low.bump_major())]
    if operator == "^":
        if low.major:
            high = low.bump_major()
        elif low.minor or text.count(".") < 2:
            high = low.bump_minor() if "." in text else low.bump_major()
        else:
            high = low.bump_patch()
        return [(">=", low), ("<", high)]
    return [(operator, low)]


class InstanceState(StrEnum):
    """Where one running copy of a service is in its life. It only ever moves down this list."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One running copy of a service, as it describes itself in the registry.

    `instance_id` is its place (`orders-2`, kept across restarts), `incarnation` this start of
    it (never used twice), so that an old process cannot remove or renew its successor.
    """

    service: str
    version: str
    instance_id: str
    incarnation: str
    address: Address
    state: InstanceState = InstanceState.STARTING
    health_path: str = "/readyz"
    needs: tuple[str, ...] = ()
    started_at: float = 0.0  # wall clock, seconds since 1970
    loop_lag: float = 0.0  # seconds its event loop answers late, at the last heartbeat
    in_flight: int = 0  # requests under way, at the last heartbeat
    weight: int = 100  # its share of traffic beside its peers; 0 = only if asked for
    zone: str = ""  # where it runs; callers there prefer it
    priority: int = 0  # the lowest is asked first, the next when that is not well
    metadata: Mapping[str, str] = field(default_factory=dict)

    def moved(self, state: InstanceState) -> "Instance":
        return replace(self, state=state)

    def __repr__(self) -> str:
        return f"<Instance {self.instance_id} {self.version} {self.address} {self.state}>"


def resolve(
    instances: Iterable[Instance], service: str, constraint: Constraint = ANY
) -> tuple[Instance, ...]:
    """The ready instances of `service` whose version `constraint` allows.

    Raises `NoInstance`, naming the versions and states seen, when there is none: another major
    version is never a fallback.
    """
    seen = [instance for instance in instances if instance.service == service]
    fit = tuple(
        instance
        for instance in seen
        if instance.state is InstanceState.READY and _fits(instance.version, constraint)
    )
    if fit:
        return fit
    known = ", ".join(sorted({f"{i.version} ({i.state})" for i in seen})) or "none"
    raise NoInstance(f"no ready instance of {service} {constraint}: versions seen: {known}")


def _fits(version: str, constraint: Constraint) -> bool:
    try:
        return constraint.allows(parse_version(version))
    except Misconfigured:  # one instance that names itself badly must not hide the others
        return False


def latest(versions: Iterable[str]) -> str | None:
    """The highest version that is no prerelease; a prerelease only if there is nothing else."""
    texts = list(versions)
    final = [text for text in texts if not parse_version(text).prerelease]
    return max(final or texts, key=parse_version, default=None)
