"""What filters did and took, for the admin listener: a page, and metrics."""

from collections.abc import Iterator

from seawall.gateway.custom import Cost
from seawall.gateway.gateway import Gateway
from seawall.gateway.metrics import labels

_METRICS = (
    ("calls", "Calls of a filter."),
    ("answers", "Requests that a filter answered."),
    ("failures", "Calls of a filter that raised."),
    ("slow", "Calls of a filter that took over a millisecond."),
)


def filter_rows(gateway: Gateway) -> list[dict[str, object]]:
    """One row for each filter that a route uses, the dearest first."""
    costs = sorted(gateway.filter_costs(), key=Cost.seconds, reverse=True)
    return [
        {
            "filter": cost.name,
            "phase": cost.phase,
            "calls": cost.calls,
            "answers": cost.answered,
            "failures": cost.failed,
            "slow": cost.slow,
            "cpu_seconds": round(cost.seconds(), 6),
            "cpu_us_per_call": round(cost.spent / cost.timed * 1e6, 2) if cost.timed else None,
        }
        for cost in costs
    ]


def filter_metrics(gateway: Gateway) -> Iterator[tuple[str, str, str, str, float]]:
    for cost in gateway.filter_costs():
        of = labels(filter=cost.name, phase=cost.phase)
        values = (cost.calls, cost.answered, cost.failed, cost.slow)
        for (name, told), value in zip(_METRICS, values, strict=True):
            yield f"seawall_gateway_filter_{name}_total", "counter", told, of, float(value)
        told = "CPU time of a filter, estimated from every 64th call."
        yield "seawall_gateway_filter_seconds_total", "counter", told, of, cost.seconds()
