"""What a split matches in a request, as header fields: a cookie is a pattern of one of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from seawall.errors import Misconfigured
from seawall.spec.traffic import WhenSpec

_ANY = ".*"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A field that has that value, or one that the pattern matches whole."""

    name: str
    value: str
    is_pattern: bool = False


def headers(when: WhenSpec) -> Iterator[Wanted]:
    """In a stable order. Raises `Misconfigured` for what a mesh cannot match."""
    for name, value in sorted(when.headers.items()):
        yield Wanted(name.lower(), _ANY, True) if value == "*" else Wanted(name.lower(), value)
    if len(when.cookies) > 1:
        raise Misconfigured(
            "the mesh matches one cookie, not several",
            fix='one cookie in `match`, or [deploy] traffic = "gateway"',
        )
    for name, value in when.cookies.items():
        said = _ANY if value == "*" else value
        yield Wanted("cookie", f"^(.*;\\s*)?{name}={said}(;.*)?$", True)
