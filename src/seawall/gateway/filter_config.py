"""Which filter of the user's own is asked, when, and with which options: frozen, checked once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from seawall.errors import Misconfigured


class Phase(StrEnum):
    """When a filter is asked."""

    BEFORE_AUTH = "before-auth"  # whoever asks
    AFTER_AUTH = "after-auth"  # who asks is known; before limits count
    BEFORE_SERVICE = "before-service"  # nothing but the service comes behind it
    ON_ANSWER = "on-answer"  # an answer's head is here


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterConfig:
    """A callable, or a class that is made with `options`; as it is, or as "package.module:name"."""

    use: str | Callable[..., Any]
    phase: Phase = Phase.AFTER_AUTH
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.use, str):
            module, colon, name = self.use.partition(":")
            if not (module and colon and name):
                raise Misconfigured(
                    f"filter {self.use!r} names no object", fix='use = "shop.gateway:check_tenant"'
                )

    @property
    def label(self) -> str:
        if isinstance(self.use, str):
            return self.use
        name = getattr(self.use, "__qualname__", type(self.use).__qualname__)
        return f"{getattr(self.use, '__module__', '')}:{name}"
