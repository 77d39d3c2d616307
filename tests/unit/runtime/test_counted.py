from seawall.runtime.autoscaler_figures import series
from seawall.runtime.canary_verdict import Outcome
from seawall.runtime.counted import COUNTED, outcome


def test_what_gateways_counted_of_an_arm() -> None:
    counted = [
        ("count", "200", "orders", "canary", 9),
        ("sum", "200", "orders", "canary", 0.5),
        ("count", "503", "orders", "canary", 2),
        ("count", "200", "orders", "stable", 90),
        ("count", "500", "users", "canary", 7),
    ]
    text = "".join(
        f"http_server_request_duration_seconds_{what}"
        f'{{http_response_status_code="{status}",service="{service}",arm="{arm}"}} {value}\n'
        for what, status, service, arm, value in counted
    )
    told = series(text, COUNTED)
    mine, canary = 'service="orders"', 'arm="canary"'
    assert outcome([told, told], mine, canary) == Outcome(22, 4, 1.0)
    assert outcome([told], mine, 'arm="stable"') == Outcome(90, 0, 0.0)
    assert outcome([told], mine) == Outcome(101, 2, 0.5)
    assert outcome([told], mine, but='status_code="503"') == Outcome(101, 0, 0.5)
    assert outcome([], mine) == Outcome()
