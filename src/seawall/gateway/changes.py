"""What another configuration changes: routes that come and go, and settings one by one. Pure.

Routes are known by their labels; of several with one label, the first is compared with the first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace

from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.describing import SECRETS, described, masked, revision
from seawall.topology import Constraint

# What a process that runs cannot change: its name and place, and where its log goes.
FIXED = ("name", "zone", "access_log", "replicas")


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting, by its dotted path; None where it is not there."""

    path: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class RouteChanged:
    name: str
    fields: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What came, or would come, of a configuration."""

    before: str  # revisions
    after: str
    added: tuple[str, ...] = ()  # routes
    removed: tuple[str, ...] = ()
    changed: tuple[RouteChanged, ...] = ()
    reordered: bool = False  # routes that stay stand in another order
    settings: tuple[Difference, ...] = ()
    needs_restart: tuple[Difference, ...] = ()  # asked for, and not done

    def __bool__(self) -> bool:
        return self.before != self.after

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {
            "revision": {"before": self.before, "after": self.after},
            "routes": {
                "added": list(self.added),
                "removed": list(self.removed),
                "changed": [
                    {"name": one.name, "fields": _plain(one.fields)} for one in self.changed
                ],
                "reordered": self.reordered,
            },
            "settings": _plain(self.settings),
            "needs_restart": _plain(self.needs_restart),
        }


def _plain(found: tuple[Difference, ...]) -> list[dict[str, object]]:
    return [{"path": one.path, "before": one.before, "after": one.after} for one in found]


def appliable(running: GatewayConfig, wanted: GatewayConfig) -> GatewayConfig:
    """`wanted`, but for what a process that runs cannot change."""
    return replace(wanted, **{name: getattr(running, name) for name in FIXED})


def changes(running: GatewayConfig, wanted: GatewayConfig) -> Changes:
    """What applying `wanted` changes, and what of it needs a restart."""
    applied = appliable(running, wanted)
    before, after = by_place(running.routes), by_place(applied.routes)
    kept = [place for place in after if place in before]
    changed = [
        RouteChanged(place, tuple(_differences("", before[place], after[place])))
        for place in kept
        if before[place] != after[place]
    ]
    return Changes(
        before=revision(running),
        after=revision(applied),
        added=tuple(place for place in after if place not in before),
        removed=tuple(place for place in before if place not in after),
        changed=tuple(changed),
        reordered=kept != [place for place in before if place in after],
        settings=tuple(_differences("", replace(running, routes=()), replace(applied, routes=()))),
        needs_restart=tuple(
            Difference(name, getattr(running, name), getattr(wanted, name))
            for name in FIXED
            if getattr(running, name) != getattr(wanted, name)
        ),
    )


def by_place(routes: tuple[Route, ...]) -> dict[str, Route]:
    """Routes by their labels; the second with one label is `LABEL #2`."""
    found: dict[str, Route] = {}
    counts: dict[str, int] = {}
    for route in routes:
        number = counts[route.label] = counts.get(route.label, 0) + 1
        found[route.label if number == 1 else f"{route.label} #{number}"] = route
    return found


def _differences(at: str, before: object, after: object) -> Iterator[Difference]:
    """Tables are compared key by key, everything else as a whole."""
    if before == after:
        return
    one, other = _table(before), _table(after)
    if one is None or other is None:
        yield Difference(at, _shown(at, before), _shown(at, after))
        return
    for key in {**one, **other}:
        where = f"{at}.{key}" if at else key
        yield from _differences(where, one.get(key), other.get(key))


def _table(value: object) -> dict[str, object] | None:
    """The parts of a value that is compared part by part; None if it is one as a whole."""
    if isinstance(value, Mapping):
        return {str(key): one for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type | Constraint):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None


def _shown(at: str, value: object) -> object:
    """As the configuration is shown, so that no secret is in it."""
    name = at.rpartition(".")[2]
    hidden = name in SECRETS or "_headers.set." in at or "_headers.add." in at
    return masked(value) if hidden and isinstance(value, str) else described(value)
