"""What gateways have counted of a service, or of an arm of its routes. Pure."""

from collections.abc import Iterable

from seawall.runtime.autoscaler_figures import Series
from seawall.runtime.canary_verdict import Outcome

_COUNT = "http_server_request_duration_seconds_count"
_SUM = "http_server_request_duration_seconds_sum"

COUNTED = (_COUNT, _SUM)


def outcome(told: Iterable[Series], *labels: str, but: str = "") -> Outcome:
    """Of the series with all these labels, of all gateways together; those labelled `but` have not
    failed, whatever their status."""
    requests = failed = seconds = 0.0
    for series in told:
        for said, value in series.get(_COUNT, ()):
            if all(label in said for label in labels):
                requests += value
                is_failure = 'response_status_code="5' in said and not (but and but in said)
                failed += value if is_failure else 0.0
        seconds += sum(
            value for said, value in series.get(_SUM, ()) if all(label in said for label in labels)
        )
    return Outcome(round(requests), round(failed), seconds)
