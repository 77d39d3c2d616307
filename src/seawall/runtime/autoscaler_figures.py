"""From what processes tell to figures of a service. Pure: texts and counts in, totals out."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from seawall.messaging.base import Lag
from seawall.spec.scaling import BUILT_IN, ScaleSpec

_SERVED = "http_server_request_duration_seconds_count"
_UNDER_WAY = "http_server_active_requests"
_HELD = "seawall_consumer_held"
_SHED = "seawall_load_shed_total"
_SHED_BEFORE = "seawall_gateway_shed_total"
_GOING_ON = "seawall_gateway_upstream_requests"

# What Prometheus' conventions end the names of counters with: of these the growth is meant.
_COUNTERS = ("_total", "_count", "_sum")

Series = Mapping[str, Sequence[tuple[str, float]]]


def series(text: str, names: Collection[str]) -> dict[str, list[tuple[str, float]]]:
    """The named metrics of a Prometheus exposition: labels as they are written, and the value.

    Only the lines that are asked for are taken apart, since there may be thousands.
    """
    found: dict[str, list[tuple[str, float]]] = {}
    for line in text.splitlines():
        end = min((at for at in (line.find("{"), line.find(" ")) if at > 0), default=0)
        name = line[:end]
        if name not in names:
            continue
        labels, closed, rest = line[end:].rpartition("}")
        try:
            value = float(rest.split()[0])
        except (IndexError, ValueError):  # another program's idea of the format
            continue
        found.setdefault(name, []).append((labels + closed, value))
    return found


def wanted_of_replicas(scale: Sequence[ScaleSpec]) -> frozenset[str]:
    """The metrics a replica is to be asked for; none where nothing of it matters."""
    own = {each.metric for each in scale if each.metric not in BUILT_IN}
    return frozenset({_SERVED, _UNDER_WAY, _HELD, _SHED} | own)


OF_GATEWAYS = frozenset({_SERVED, _SHED_BEFORE, _GOING_ON})


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard in one look, before it is made into figures.

    `replicas` and `gateways` have what each told, by its name. None in `lags` for a broker that
    did not answer. `cpu` in cores and `memory` in bytes are of all replicas; None if not known.
    """

    service: str
    ready: int
    replicas: Mapping[str, Series]
    gateways: Mapping[str, Series]
    cpu: float | None = None
    memory: int | None = None
    lags: Mapping[str, Sequence[Lag]] | None = None  # by topic


class Rates:
    """How fast counters grow. One that is smaller than before was begun anew by its process."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[float, float]] = {}

    def rate(self, name: str, counts: Mapping[str, float], now: float) -> float | None:
        """A second, of all sources together; None until a second look at one of them."""
        grown: float | None = None
        for source, value in counts.items():
            before = self._last.get((name, source))
            self._last[name, source] = (now, value)
            if before is not None and now > before[0]:
                more = value - before[1] if value >= before[1] else value
                grown = (grown or 0.0) + more / (now - before[0])
        self._forget(name, counts)
        return grown

    def change(self, name: str, values: Mapping[str, float], now: float) -> float:
        """A second, of gauges, all together; below 0 where they fall. One that is new is as it
        was."""
        changed = 0.0
        for source, value in values.items():
            at, before = self._last.get((name, source), (now, value))
            self._last[name, source] = (now, value)
            changed += (value - before) / (now - at) if now > at else 0.0
        self._forget(name, values)
        return changed

    def _forget(self, name: str, but: Collection[str]) -> None:
        for key in [k for k in self._last if k[0] == name and k[1] not in but]:
            del self._last[key]


class Figures:
    """The totals of one service, look after look."""

    def __init__(self, scale: Sequence[ScaleSpec]) -> None:
        self._scale = scale
        self._rates = Rates()

    def totals(self, heard: Heard, now: float) -> tuple[float | None, ...]:
        """Of all replicas together, in the order in which they are declared."""
        return tuple(self._total(each, heard, now) for each in self._scale)

    def _total(self, each: ScaleSpec, heard: Heard, now: float) -> float | None:
        if each.metric == "requests":
            return self._offered(heard, now)
        if each.metric in _KNOWN:
            return _KNOWN[each.metric](each, heard)
        return self._declared(each, heard, now)

    def _offered(self, heard: Heard, now: float) -> float | None:
        """Most comes through the gateway, which also counts what it sheds; the rest from other
        services, which only replicas count. Either sees a part, so the larger one is nearer."""
        parts = [
            self._begun(heard, now),
            self._rates.rate("replicas", _each(heard.replicas, _SERVED, empty=0.0), now),
        ]
        known = [part for part in parts if part is not None]
        return max(known) if known else None

    def _begun(self, heard: Heard, now: float) -> float | None:
        """At gateways, which count a request when it has ended: in a surge most wait, and have
        not. What is under way has begun too."""
        ended = self._rates.rate("gateways", _at_gateways(heard, _SERVED), now)
        more = self._rates.change("going on", _at_gateways(heard, _GOING_ON), now)
        return None if ended is None else max(0.0, ended + more)

    def shed(self, heard: Heard, now: float) -> float | None:
        """Requests a second that were refused for overload: by gateways, which then asked nobody,
        and by replicas. They are among what is offered."""
        parts = [
            self._rates.rate("shed before", _at_gateways(heard, _SHED_BEFORE), now),
            self._rates.rate("shed", _each(heard.replicas, _SHED, empty=0.0), now),
        ]
        known = [part for part in parts if part is not None]
        return sum(known) if known else None

    def _declared(self, each: ScaleSpec, heard: Heard, now: float) -> float | None:
        values = _each(heard.replicas, each.metric)
        if not values:
            return None
        if each.metric.endswith(_COUNTERS):
            return self._rates.rate(each.metric, values, now)
        return max(values.values()) if each.across == "max" else sum(values.values())


def _at_gateways(heard: Heard, metric: str) -> dict[str, float]:
    """What each gateway counts of this service alone."""
    mine = f'service="{heard.service}"'
    return {
        name: sum(v for labels, v in told.get(metric, ()) if mine in labels)
        for name, told in heard.gateways.items()
    }


def held_by(told: Series) -> int:
    """Messages that a replica has in its hands."""
    return round(sum(value for _, value in told.get(_HELD, ())))


def busy(told: Series) -> int:
    """Requests and messages that a replica has in its hands."""
    return held_by(told) + round(sum(value for _, value in told.get(_UNDER_WAY, ())))


def _each(
    told: Mapping[str, Series], metric: str, *, empty: float | None = None
) -> dict[str, float]:
    """The sum of each one's series; those that have none count as `empty`, if that is given."""
    found = {}
    for name, all_series in told.items():
        rows = all_series.get(metric)
        if rows is not None:
            found[name] = sum(value for _, value in rows)
        elif empty is not None:
            found[name] = empty
    return found


def _sum(told: Mapping[str, Series], metric: str) -> float | None:
    values = _each(told, metric)
    return sum(values.values()) if values else None


def _lags(each: ScaleSpec, heard: Heard) -> list[Lag] | None:
    if heard.lags is None:
        return None
    topics = heard.lags if each.topic is None else {each.topic}
    if not set(topics) <= set(heard.lags):
        return None  # nobody has said yet that it consumes this one
    return [lag for topic in topics for lag in heard.lags[topic]]


def _in_flight(each: ScaleSpec, heard: Heard) -> float | None:
    return _sum(heard.replicas, _UNDER_WAY)


def _cpu(each: ScaleSpec, heard: Heard) -> float | None:
    return None if heard.cpu is None else 100 * heard.cpu


def _memory(each: ScaleSpec, heard: Heard) -> float | None:
    return None if heard.memory is None else heard.memory / 1e6


def _queue(each: ScaleSpec, heard: Heard) -> float | None:
    lags = _lags(each, heard)
    return None if lags is None else float(sum(lag.ready + lag.in_flight for lag in lags))


def _age(each: ScaleSpec, heard: Heard) -> float | None:
    """No share of a replica's: so in proportion to how many there are."""
    lags = _lags(each, heard)
    oldest = None if lags is None else max((lag.oldest_age for lag in lags), default=0.0)
    return None if oldest is None else oldest * max(1, heard.ready)


_KNOWN: Mapping[str, Callable[[ScaleSpec, Heard], float | None]] = {
    "in_flight": _in_flight,
    "cpu": _cpu,
    "memory": _memory,
    "queue": _queue,
    "age": _age,
}
