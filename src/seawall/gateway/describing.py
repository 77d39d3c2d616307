"""A configuration as plain data, without its secrets: to be shown, compared, and known by a digest.

A secret is shown as four letters of its digest. That tells one from another, as a comparison of
two configurations needs, and is too little to find a weak one by trying.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from hashlib import sha256

from seawall.gateway.actions import Edits
from seawall.gateway.config import GatewayConfig
from seawall.topology import Constraint

# A field of this name is a secret, wherever it stands.
SECRETS = frozenset(("secret", "password", "token", "sha256"))

# What is each process' own: replicas with one configuration have one revision.
OWN = frozenset(("name", "zone"))

_PLAIN = frozenset((str, int, bool, type(None)))


def described(value: object) -> object:
    """Plain data: what JSON knows and what differs from its default, and nothing secret."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, Constraint):
        return value.text or "*"
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Edits):  # a service may want to hear a secret in a field
        return {
            "remove": list(value.remove),
            "set": {name: masked(text) for name, text in value.set.items()},
            "add": {name: masked(text) for name, text in value.add.items()},
        }
    if is_dataclass(kind):
        return _parts(
            (name, one)
            for name, default in _defaults(kind)
            if (one := getattr(value, name)) is not default and one != default
        )
    return _collected(value)


def _collected(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON knows no infinity
    if isinstance(value, Mapping):
        return _parts((str(key), one) for key, one in value.items())
    if isinstance(value, tuple | list):
        return [described(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', repr(value))}"


def _parts(parts: Iterable[tuple[str, object]]) -> dict[str, object]:
    return {
        name: masked(value) if name in SECRETS and isinstance(value, str) else described(value)
        for name, value in parts
    }


@cache
def _defaults(kind: type) -> tuple[tuple[str, object], ...]:
    """The fields of a dataclass and their defaults."""
    return tuple(
        (one.name, one.default if one.default_factory is MISSING else one.default_factory())
        for one in fields(kind)
    )


def masked(secret: str) -> str:
    return secret and f"*** {sha256(secret.encode()).hexdigest()[:4]}"


def settings(config: GatewayConfig) -> dict[str, object]:
    """What the configuration says, but for what is this process' own."""
    said = described(config)
    assert isinstance(said, dict)
    return {name: value for name, value in said.items() if name not in OWN}


def revision(config: GatewayConfig) -> str:
    """Twelve letters that are the same for gateways that do the same."""
    text = json.dumps(settings(config), sort_keys=True)
    return sha256(text.encode()).hexdigest()[:12]
