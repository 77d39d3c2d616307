"""What a route of the spec says of times, retries, hedges and fallbacks."""

from pathlib import Path

import pytest

from seawall.errors import Misconfigured
from seawall.gateway.config import GatewayConfig, Timeouts
from seawall.gateway.fallback import Fallback
from seawall.gateway.retrying import EVERY, Retry
from seawall.resilience.hedge import HedgeConfig
from seawall.resilience.shed import Importance
from seawall.runtime.gateway_config import gateway_config
from seawall.spec.load import load_spec

SERVICES = """
[services.orders]
command = ["sleep", "1"]
[services.archive]
command = ["sleep", "1"]
[[gateway.routes]]
service = "orders"
"""


def read(folder: Path, route: str) -> GatewayConfig:
    (folder / "seawall.toml").write_text(SERVICES + route)
    return gateway_config(load_spec(folder).gateway)


def test_a_route_that_says_nothing_has_the_defaults(tmp_path: Path) -> None:
    (route,) = read(tmp_path, "").routes
    assert (route.retry, route.timeouts) == (Retry(), Timeouts())
    assert (route.hedge, route.fallback, route.max_requests) == (None, None, None)
    assert route.importance is Importance.NORMAL


def test_all_of_it(tmp_path: Path) -> None:
    (route,) = read(
        tmp_path,
        """
timeout = 5
timeouts = { connect = 0.5, first_byte = 2, per_try = 3, idle = 4, stream_idle = 60 }
priority = "sheddable"
max_requests = 7
hedge = { after = "p99", max = 2, ratio = 0.2, floor = 2 }
fallback = { service = "archive", on = ["open", 503] }
[gateway.routes.retry]
attempts = 4
on = ["connect", "503", 502]
methods = ["GET", "POST"]
backoff = { base = 0.1, cap = 0.5 }
patience = 2
""",
    ).routes
    assert route.timeouts == Timeouts(
        connect=0.5, first_byte=2, per_try=3, idle=4, total=5, stream_idle=60
    )
    assert route.retry == Retry(
        attempts=4,
        on=("connect", "503", "502"),
        methods=("GET", "POST"),
        base=0.1,
        cap=0.5,
        patience=2,
    )
    assert route.hedge == HedgeConfig(quantile=0.99, most=2, ratio=0.2, floor=2)
    assert route.fallback == Fallback(service="archive", on=("open", "503"))
    assert (route.importance, route.max_requests) == (Importance.SHEDDABLE, 7)


def test_a_hedge_may_wait_for_seconds(tmp_path: Path) -> None:
    (route,) = read(tmp_path, "hedge = { after = 0.2 }\nretry = { methods = 'all' }\n").routes
    assert route.hedge == HedgeConfig(after=0.2)
    assert route.retry.methods == EVERY


def test_a_service_limits_itself_and_counts_slow_answers(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
[gateway.upstreams.orders]
adaptive = { kind = "vegas", initial = 30 }
breaker = { slow_after = 2 }
""",
    )
    orders = config.upstreams_of("orders")
    assert orders.adaptive is not None
    assert (orders.adaptive.kind, orders.adaptive.initial) == ("vegas", 30)
    assert orders.breaker.slow_after == 2
    assert config.upstreams_of("archive").adaptive is None


@pytest.mark.parametrize(
    "wrong",
    [
        "retry = { on = ['404'] }",
        "retry = { methods = 'some' }",
        "hedge = { after = 'median' }",
        "hedge = { after = -1 }",
        "fallback = { service = 'nobody' }",
        "fallback = { service = 'archive', body = 'x' }",
        "fallback = { statu = 200 }",
        "priority = 'urgent'",
        "timeouts = { idle = -1 }",
        "max_requests = 0",
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(Misconfigured):
        read(tmp_path, wrong)
