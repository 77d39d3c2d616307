"""What every table of `seawall.toml` is: frozen, and without unknown keys."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def known(name: str, names: Mapping[str, Any], where: str) -> None:
    if name not in names:
        raise ValueError(f"{where}: {name!r} is not declared{did_you_mean(name, names)}")


def did_you_mean(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f" (known: {', '.join(sorted(known))})" if known else ""
