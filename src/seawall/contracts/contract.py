"""What one version of a service publishes and consumes: a value that can be kept in a file."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from seawall.errors import Misconfigured

# A JSON Schema of draft 2020-12, in the part of it that pydantic writes. `{}` takes anything.
Schema = Mapping[str, Any]

FORM = "seawall.contract/1"
_FIX = "seawall contracts export"
QUEUE = "workers"  # the group of a topic that is a queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a service writes to a topic. `structured`: as one JSON object with its attributes."""

    topic: str
    schema: Schema = field(default_factory=dict)
    structured: bool = False

    def to_json(self) -> dict[str, Any]:
        told = {"topic": self.topic, "schema": self.schema}
        return {**told, "structured": True} if self.structured else told


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """What a group of a service reads from a topic."""

    topic: str
    group: str
    schema: Schema = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"topic": self.topic, "group": self.group, "schema": self.schema}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One version of a service, as others see its messages."""

    service: str
    version: str
    description: str = ""
    publishes: tuple[Published, ...] = ()
    consumes: tuple[Consumed, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": FORM,
            "service": self.service,
            "version": self.version,
            "description": self.description,
            "publishes": [one.to_json() for one in self.publishes],
            "consumes": [one.to_json() for one in self.consumes],
        }

    @classmethod
    def from_json(cls, told: object) -> Self:
        """Raises `Misconfigured` for what is no contract."""
        if not isinstance(told, dict) or told.get("schema") != FORM:
            raise Misconfigured(f"this is no {FORM}", fix=_FIX)
        try:
            return cls(
                service=str(told["service"]),
                version=str(told["version"]),
                description=str(told.get("description", "")),
                publishes=tuple(Published(**one) for one in told["publishes"]),
                consumes=tuple(Consumed(**one) for one in told["consumes"]),
            )
        except (KeyError, TypeError) as exc:
            raise Misconfigured(f"this is no {FORM}: {exc}", fix=_FIX) from exc

    def __str__(self) -> str:
        return f"{self.service} {self.version}"


def written(contracts: Iterable[Contract]) -> str:
    """Contracts as a file; the same contracts always make the same text."""
    inside = [one.to_json() for one in sorted(contracts, key=lambda each: each.service)]
    return json.dumps(inside, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read(text: str) -> Sequence[Contract]:
    """The contracts in a file: a list of them, or one alone."""
    try:
        told = json.loads(text)
    except ValueError as exc:
        raise Misconfigured(f"this is no JSON: {exc}", fix=_FIX) from exc
    return [Contract.from_json(one) for one in (told if isinstance(told, list) else [told])]
