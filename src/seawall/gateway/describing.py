"""A configuration as plain data, without its secrets: to be shown, compared, and known by a digest.

A secret is shown as four letters of its digest. That tells one from another, as a comparison of
two configurations needs, and is too little to find a weak one by trying.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import sha256

from seawall.gateway.actions import Edits
from seawall.gateway.config import GatewayConfig
from seawall.topology import Constraint

# A field of this name is a secret, wherever it stands.
SECRETS = frozenset(("secret", "password", "token", "sha256"))

# What is each process' own: replicas with one configuration have one revision.
_OWN = frozenset(("name", "zone"))


def described(value: object) -> object:
    """Plain data: what JSON knows, and nothing that is secret."""
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
    if is_dataclass(value) and not isinstance(value, type):
        return _parts((field.name, getattr(value, field.name)) for field in fields(value))
    return _described_plain(value)


def _described_plain(value: object) -> object:
    if isinstance(value, Mapping):
        return _parts((str(key), one) for key, one in value.items())
    if isinstance(value, tuple | list):
        return [described(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON knows no infinity
    if value is None or isinstance(value, str | int | float):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)


def _parts(parts: Iterable[tuple[str, object]]) -> dict[str, object]:
    return {
        name: masked(value) if name in SECRETS and isinstance(value, str) else described(value)
        for name, value in parts
    }


def masked(secret: str) -> str:
    return secret and f"*** {sha256(secret.encode()).hexdigest()[:4]}"


def settings(config: GatewayConfig) -> dict[str, object]:
    """The whole configuration but for what is this process' own."""
    return _parts(
        (field.name, getattr(config, field.name))
        for field in fields(config)
        if field.name not in _OWN
    )


def revision(config: GatewayConfig) -> str:
    """Twelve letters that are the same for gateways that do the same."""
    text = json.dumps(settings(config), sort_keys=True)
    return sha256(text.encode()).hexdigest()[:12]
