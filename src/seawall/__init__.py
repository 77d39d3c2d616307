"""Seawall: the microservices platform for Python. Names are loaded when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seawall.version import __version__ as __version__

if TYPE_CHECKING:
    from seawall.errors import BreakerOpen as BreakerOpen
    from seawall.errors import DeadlineExceeded as DeadlineExceeded
    from seawall.errors import Full as Full
    from seawall.errors import Misconfigured as Misconfigured
    from seawall.errors import NoInstance as NoInstance
    from seawall.errors import NotSent as NotSent
    from seawall.errors import OutcomeUnknown as OutcomeUnknown
    from seawall.errors import RateLimited as RateLimited
    from seawall.errors import Refused as Refused
    from seawall.errors import SeawallError as SeawallError
    from seawall.errors import Unavailable as Unavailable
    from seawall.messaging.base import Delivery as Delivery
    from seawall.messaging.ordering import Ordered as Ordered
    from seawall.messaging.outcomes import Reject as Reject
    from seawall.messaging.outcomes import Retry as Retry
    from seawall.messaging.policy import RetryPolicy as RetryPolicy
    from seawall.sagas.engine import Flow as Flow
    from seawall.sagas.engine import SagaMoved as SagaMoved
    from seawall.sagas.saga import Saga as Saga
    from seawall.sagas.saga import Step as Step
    from seawall.service.client import Client as Client
    from seawall.service.context import Caller as Caller
    from seawall.service.context import Context as Context
    from seawall.service.context import Identity as Identity
    from seawall.service.context import requires as requires
    from seawall.service.database import Database as Database
    from seawall.service.database import Transaction as Transaction
    from seawall.service.events import Event as Event
    from seawall.service.problem import CallFailed as CallFailed
    from seawall.service.problem import CallRefused as CallRefused
    from seawall.service.response import Response as Response
    from seawall.service.routes import Idempotency as Idempotency
    from seawall.service.schedules import Tick as Tick
    from seawall.service.service import Service as Service

_HOME = {
    **dict.fromkeys(
        (
            *("BreakerOpen", "DeadlineExceeded", "Full", "Misconfigured", "NoInstance", "NotSent"),
            *("OutcomeUnknown", "RateLimited", "Refused", "SeawallError", "Unavailable"),
        ),
        "seawall.errors",
    ),
    "Delivery": "seawall.messaging.base",
    **dict.fromkeys(("Reject", "Retry"), "seawall.messaging.outcomes"),
    "Ordered": "seawall.messaging.ordering",
    "RetryPolicy": "seawall.messaging.policy",
    **dict.fromkeys(("Flow", "SagaMoved"), "seawall.sagas.engine"),
    **dict.fromkeys(("Saga", "Step"), "seawall.sagas.saga"),
    "Client": "seawall.service.client",
    **dict.fromkeys(("Caller", "Context", "Identity", "requires"), "seawall.service.context"),
    **dict.fromkeys(("Database", "Transaction"), "seawall.service.database"),
    "Event": "seawall.service.events",
    **dict.fromkeys(("CallFailed", "CallRefused"), "seawall.service.problem"),
    "Response": "seawall.service.response",
    "Tick": "seawall.service.schedules",
    "Idempotency": "seawall.service.routes",
    "Service": "seawall.service.service",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
