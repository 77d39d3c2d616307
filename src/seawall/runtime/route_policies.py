"""A route's policies, in the gateway's own words. Pure."""

from dataclasses import replace

from seawall.gateway.config import Timeouts
from seawall.gateway.fallback import Fallback
from seawall.gateway.retrying import EVERY, IDEMPOTENT, Retry
from seawall.resilience.hedge import HedgeConfig
from seawall.spec.policies import FallbackSpec, HedgeSpec, RetrySpec, TimeoutsSpec


def timeouts(spec: TimeoutsSpec, total: float) -> Timeouts:
    return Timeouts(total=total, **spec.model_dump())


def retry(spec: RetrySpec) -> Retry:
    """Raises `Misconfigured`."""
    methods = spec.methods
    named = {"idempotent": IDEMPOTENT, "all": EVERY}
    return Retry(
        attempts=spec.attempts,
        on=tuple(str(one) for one in spec.on),
        methods=named[methods] if isinstance(methods, str) else tuple(methods),
        base=spec.backoff.base,
        cap=spec.backoff.cap,
        patience=spec.patience,
    )


def hedge(spec: HedgeSpec | None) -> HedgeConfig | None:
    """Raises `Misconfigured`."""
    if spec is None:
        return None
    config = HedgeConfig(most=spec.max, ratio=spec.ratio, floor=spec.floor)
    after = spec.after
    if isinstance(after, str):
        return replace(config, quantile=float(after.removeprefix("p")) / 100)
    return replace(config, after=after)


def fallback(spec: FallbackSpec | None) -> Fallback | None:
    """Raises `Misconfigured`."""
    if spec is None:
        return None
    on = tuple(str(one) for one in spec.on)
    return Fallback(**spec.model_dump(exclude={"on"}), on=on)
