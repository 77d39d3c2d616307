"""What a process is to run, as a value that crosses to the process that starts it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A function to call in a forked child, or a command to execute.

    `call` is `package.module:function`; it gets `arguments` and returns the exit status. Without
    it `arguments` is the command. `environment` is the whole environment, nothing is inherited.
    """

    name: str  # shown by ps and top
    call: str | None = None
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "."
    # How long it may take to end after SIGTERM, if its parent must stop it by itself.
    grace: float = 10.0  # seconds
    # A server that the others need while they stop is stopped after them.
    last: bool = False

    def with_environment(self, more: Mapping[str, str]) -> Self:
        """The same with more in its environment."""
        return replace(self, environment={**self.environment, **more})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{**values, "arguments": tuple(values["arguments"])})
