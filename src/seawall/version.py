"""Which Seawall this is."""

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec

__version__ = "0.1.0"


def build() -> str:
    """Whether the gateway's data path runs "compiled" to C, or "interpreted"."""
    found = find_spec("seawall.gateway.exchange")
    place = "" if found is None or found.origin is None else found.origin
    return "compiled" if place.endswith(tuple(EXTENSION_SUFFIXES)) else "interpreted"
