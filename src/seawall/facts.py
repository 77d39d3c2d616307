"""How anything says that something happened, without knowing who listens.

A fact is a frozen dataclass named in the past tense (`BreakerMoved`, `LeaseLost`). Pure code
returns facts; the code around it hands them to an `Observer`. Metrics, logs and dashboards are
observers, wired above.
"""

from collections.abc import Callable

Observer = Callable[[object], None]


def ignore(fact: object) -> None:
    """The observer of those who have none."""


class Fanout:
    """One observer made of several.

    An observer that raises is counted in `failed` and otherwise ignored: whoever watches must
    not be able to break what is watched.
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = list(observers)
        self.failed = 0

    def add(self, observer: Observer) -> None:
        self._observers.append(observer)

    def __call__(self, fact: object) -> None:
        for observer in self._observers:
            try:
                observer(fact)
            except Exception:  # noqa: BLE001 - see the class docstring
                self.failed += 1
