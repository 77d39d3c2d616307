"""What a service's code says that its surroundings have to fit: read from the declarations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seawall.messaging.base import Subscription

if TYPE_CHECKING:
    from seawall.service.service import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Another service that it calls; `timeout` in seconds for each of `attempts` tries."""

    callee: str
    timeout: float
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """A subscription whose handler may run for `timeout` seconds."""

    subscription: Subscription
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One service, as its code has it; of a command nothing is known."""

    version: str | None = None
    needs: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    handlings: tuple[Handling, ...] = ()
    takes_turns: bool = False  # it has schedules, or handlers that keep an order
    pool: int | None = None  # connections to its database at most; None: it has none


Declarations = Mapping[str, Declared]


def _place(handling: Handling) -> tuple[str, str]:
    return handling.subscription.topic, handling.subscription.group


def declared(service: "Service") -> Declared:
    """Read the declarations of a service, which need not run."""
    said = service.gauges.declared
    calls = (
        Call(
            callee=client.service,
            timeout=client.config.timeout,
            attempts=client.config.retry.attempts,
        )
        for client in said.clients
    )
    handlings = (
        Handling(subscription=each.subscription, timeout=each.config.timeout)
        for each in said.handlers
    )
    return Declared(
        version=service.version,
        needs=service.needs,
        calls=tuple(sorted(calls, key=lambda call: (call.callee, call.timeout))),
        handlings=tuple(sorted(handlings, key=_place)),
        takes_turns=bool(said.schedules)
        or any(each.config.ordered is not None for each in said.handlers),
        pool=None if said.database is None else said.database.size.max_size,
    )
