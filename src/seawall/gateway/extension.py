"""Finds the user's filters, makes them once, and keeps them while the configuration says the same.

A filter is made when a configuration is drafted, so one that cannot be found or made is an error
there. Code that has been imported stays as it is: a reload reads no module anew.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from seawall.errors import Misconfigured
from seawall.gateway.custom import Check, Cost, Custom, CustomFinisher, OnAnswer, Watch
from seawall.gateway.filter_config import FilterConfig, Phase


@dataclass(frozen=True, slots=True)
class Made:
    """A user's filter, ready to be asked."""

    config: FilterConfig
    cost: Cost
    check: Custom | None
    on_answer: CustomFinisher | None


class Extensions:
    """The user's filters of one gateway, and what each filter costs, built-in ones too."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._made: list[Made] = []
        self._next: list[Made] = self._made
        self._costs: dict[tuple[str, str], Cost] = {}
        self._next_costs: dict[tuple[str, str], Cost] = self._costs

    def draft(self) -> None:
        """What is asked for from now on is another configuration's."""
        self._next, self._next_costs = [], {}

    def adopt(self) -> None:
        """That holds now; what nobody asked for is dropped."""
        self._made, self._costs = self._next, self._next_costs

    def costs(self) -> list[Cost]:
        return list(self._costs.values())

    def cost(self, name: str, phase: str) -> Cost:
        key = (name, phase)
        found = self._next_costs.get(key) or self._costs.get(key) or Cost(name, phase)
        self._next_costs[key] = found
        return found

    def all(self, wanted: Sequence[FilterConfig]) -> list[Made]:
        """Filters in their order. Raises `Misconfigured`."""
        return [self._one(config) for config in wanted]

    def _one(self, config: FilterConfig) -> Made:
        for made in (*self._next, *self._made):
            if made.config == config:
                break
        else:
            made = self._make(config)
        if made not in self._next:
            self._next.append(made)
        self._next_costs[made.config.label, made.config.phase.value] = made.cost
        return made

    def _make(self, config: FilterConfig) -> Made:
        target, label = _target(config), config.label
        cost = self.cost(label, config.phase.value)
        check, on_answer = None, None
        if config.phase is Phase.ON_ANSWER:
            on_answer = _callable(getattr(target, "on_answer", target), label)
        else:
            on_answer = _callable(getattr(target, "on_answer", None), label)
            check = _callable(target if callable(target) else None, label)
        if check is None and on_answer is None:
            raise Misconfigured(f"filter {label} can neither be called nor has it on_answer")
        return Made(config, cost, *self._guarded(cost, check, on_answer))

    def _guarded(
        self, cost: Cost, check: Check | None, on_answer: OnAnswer | None
    ) -> tuple[Custom | None, CustomFinisher | None]:
        answers = cost
        if check is not None and on_answer is not None:
            answers = self.cost(cost.name, Phase.ON_ANSWER.value)
        return (
            None if check is None else Custom(check, cost, self.watch),
            None if on_answer is None else CustomFinisher(on_answer, answers, self.watch),
        )


def _target(config: FilterConfig) -> object:
    found = _found(config.use) if isinstance(config.use, str) else config.use
    if isinstance(found, type):
        try:
            return found(**config.options)
        except Exception as exc:
            raise Misconfigured(f"filter {config.label}: {type(exc).__name__}: {exc}") from exc
    if config.options:
        raise Misconfigured(
            f"filter {config.label} is no class, so it takes no options", fix="a class, or none"
        )
    return found


def _found(use: str) -> object:
    module, _, name = use.partition(":")
    try:
        found: object = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as exc:  # a module may raise anything
        raise Misconfigured(
            f"filter {use!r}: {type(exc).__name__}: {exc}",
            fix="a module beside seawall.toml, or one that is installed",
        ) from exc
    return found


def _callable(found: object, label: str) -> Callable[[Any, Any], Any] | None:
    """`found` if it takes two arguments and does not wait. Raises `Misconfigured`."""
    if found is None:
        return None
    if not callable(found):
        raise Misconfigured(f"filter {label} cannot be called")
    call = getattr(found, "__call__", found)  # noqa: B004 - of an object, what is async or not
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(call):
        raise Misconfigured(f"filter {label} waits", fix="def in place of async def")
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError) as exc:
        raise Misconfigured(
            f"filter {label}: {exc}",
            fix="def check(request, now), def on_answer(request, response)",
        ) from None
    return found
