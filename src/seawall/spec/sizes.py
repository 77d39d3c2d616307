"""Sizes as people write them: `512MiB`, `1.5GB`, or a number of bytes."""

import re
from typing import Annotated

from pydantic import BeforeValidator

_UNITS = {
    **{"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
    **{"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40},  # as Kubernetes writes them
}

_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def in_bytes(value: object) -> object:
    """`value` in bytes if it is such a text; raises `ValueError` where its unit is unknown."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f'{value!r} is no size: "512MiB", "1.5GB", or a number of bytes')
    return int(float(match[1]) * _UNITS[match[2].lower()])


Size = Annotated[int, BeforeValidator(in_bytes)]
"""In bytes."""
