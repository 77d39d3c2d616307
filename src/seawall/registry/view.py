"""What a watcher believes: pure decisions about readings, changes and silence.

A reading is the truth, except about absence just after an outage: a registry that was away, or
lost its data, knows less than we do. Instances that vanish together then stay in the view as
suspects until they beat again, or for one more lease. Whoever calls one that is really dead sees
it at once from the connection, so a suspect costs a retry; an empty view would cost everything.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from seawall.registry.lease import Place, follows, place
from seawall.topology import Instance, InstanceState


@dataclass(frozen=True, slots=True)
class View:
    """Every instance that is believed to run, ordered by service and instance.

    `stale` says that the registry cannot be heard at present and this is the last that was
    known. `suspects` are in `instances` too: until when each is believed without a sign of it.
    """

    instances: tuple[Instance, ...] = ()
    stale: bool = True
    read_at: float = 0.0  # when everything was last read, by the monotonic clock
    suspects: Mapping[Place, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        heard = "stale" if self.stale else "live"
        return f"<View {len(self.instances)} instances, {len(self.suspects)} suspects, {heard}>"


def changed(view: View, change: Instance) -> View:
    """The view after one pushed change.

    Changes may be older than the last reading, so news from the past is ignored. That a suspect
    is gone is no news: it is what made it one.
    """
    believed = {place(instance): instance for instance in view.instances}
    where = place(change)
    held = believed.get(where)
    if change.state is InstanceState.GONE:
        if held is None or where in view.suspects or held.incarnation != change.incarnation:
            return view
        del believed[where]
    else:
        if held is not None and not follows(change, held):
            return view
        believed[where] = change
    suspects = {suspect: until for suspect, until in view.suspects.items() if suspect != where}
    return replace(view, instances=_ordered(believed.values()), suspects=suspects)


def refreshed(view: View, reading: Iterable[Instance], now: float, *, lease: float) -> View:
    """The view after everything was read, at `now`; a stale view is one after an outage."""
    found = {place(instance): instance for instance in reading}
    missing = [instance for instance in view.instances if place(instance) not in found]
    suspects = _suspects(view, missing, now, lease)
    kept = [instance for instance in missing if place(instance) in suspects]
    return View(_ordered([*found.values(), *kept]), False, now, suspects)


def _suspects(view: View, missing: list[Instance], now: float, lease: float) -> dict[Place, float]:
    """Who of the missing is believed nevertheless, and until when."""
    # Most of the whole system gone in one reading, with no outage seen, is a registry that was
    # emptied. One instance of one says nothing.
    emptied = len(missing) > 1 and 2 * len(missing) > len(view.instances)
    ready = Counter(i.service for i in view.instances if i.state is InstanceState.READY)
    lost = Counter(i.service for i in missing if i.state is InstanceState.READY)
    suspects = {}
    for instance in missing:
        where, service = place(instance), instance.service
        until = view.suspects.get(where)
        if until is not None and not view.stale:
            if now < until:
                suspects[where] = until
        elif instance.state is not InstanceState.READY:
            continue
        elif (view.stale or emptied) and 2 * lost[service] > ready[service]:
            suspects[where] = now + lease
    return suspects


def _ordered(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    return tuple(sorted(instances, key=place))
