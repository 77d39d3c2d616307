"""What another configuration changes: routes that come and go, and settings one by one. Pure.

Routes are known by their labels; of several with one label, the first is compared with the first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.describing import described, revision, settings

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
        RouteChanged(place, tuple(_differences(described(before[place]), described(after[place]))))
        for place in kept
        if before[place] != after[place]
    ]
    return Changes(
        before=revision(running),
        after=revision(applied),
        added=tuple(place for place in after if place not in before),
        removed=tuple(place for place in before if place not in after),
        changed=tuple(one for one in changed if one.fields),
        reordered=kept != [place for place in before if place in after],
        settings=tuple(_differences(_without_routes(running), _without_routes(applied))),
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


def _without_routes(config: GatewayConfig) -> dict[str, object]:
    return {name: value for name, value in settings(config).items() if name != "routes"}


def _differences(before: object, after: object, at: str = "") -> Iterator[Difference]:
    """Tables are compared key by key, everything else as a whole."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {**before, **after}:
            where = f"{at}.{key}" if at else str(key)
            yield from _differences(before.get(key), after.get(key), where)
    elif before != after:
        yield Difference(at, before, after)
