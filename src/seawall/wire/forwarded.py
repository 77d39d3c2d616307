"""The Forwarded field (RFC 7239): who asked, through whom, in one field instead of three. Pure."""

import re
from typing import Final

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"'
_PAIR: Final = re.compile(rf"({_TOKEN})=({_TOKEN}|{_QUOTED})".encode("latin-1"))
_SEPARATOR: Final = re.compile(rb"[ \t]*([,;])[ \t]*")
# An address with or without a port; what else there may be (`unknown`, `_hidden`) is no address.
_NODE: Final = re.compile(
    rb"(?:([0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})\])(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
)

UNKNOWN: Final = b"unknown"


def hops(value: bytes) -> list[dict[bytes, bytes]] | None:
    """What each proxy said, the first one's first; None if this is not what the RFC describes."""
    found: list[dict[bytes, bytes]] = [{}]
    at = 0
    value = value.strip(b" \t")
    while at < len(value):
        pair = _PAIR.match(value, at)
        if pair is None:
            return None
        name, text = pair[1].lower(), pair[2]
        if name in found[-1]:
            return None
        found[-1][name] = _unquoted(text) if text[:1] == b'"' else text
        at = pair.end()
        if at < len(value):
            separator = _SEPARATOR.match(value, at)
            if separator is None or separator.end() == len(value):
                return None
            if separator[1] == b",":
                found.append({})
            at = separator.end()
    return found


def _unquoted(text: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", text[1:-1])


def address(node: bytes) -> bytes:
    """The address in the value of `for`, or `unknown`."""
    found = _NODE.fullmatch(node)
    return UNKNOWN if found is None else found[1] or found[2]


def element(peer: str, host: bytes, proto: bytes) -> bytes:
    """What we say: who asked us, for which host."""
    node = peer.encode()
    if b":" in node:
        node = b'"[%b]"' % node
    elif b"." not in node:
        node = UNKNOWN  # a Unix socket
    said = b"for=%b;proto=%b" % (node, proto)
    if host:
        said += b";host=" + (host if re.fullmatch(_TOKEN.encode(), host) else b'"%b"' % host)
    return said
