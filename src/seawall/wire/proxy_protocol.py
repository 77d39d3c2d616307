"""The PROXY protocol, versions 1 and 2: what a load balancer says of a connection before its bytes.

Whoever may write this names any address it likes, so it is read from trusted peers only; and
what is not exactly it ends the connection without an answer, since the sender speaks no HTTP yet.
Pure.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"

# A line of version 1 with its end.
MAX_LINE: Final = 107
# Of version 2: addresses, and extensions (TLS, names) that are passed over. Real ones have dozens.
MAX_BODY: Final = 1024

_LINE: Final = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]{2,45}) ([0-9A-Fa-f.:]{2,45}) "
    rb"(0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
)
_LOCAL: Final = 0x20  # the balancer itself: a health check
_PROXY: Final = 0x21
# Addresses' length by family and protocol: TCP over IPv4 and over IPv6. For others, of which the
# standard says to use the connection's own address, nothing is read.
_SIZES: Final = {0x11: 12, 0x21: 36}
_OTHERS: Final = frozenset((0x00, 0x12, 0x22, 0x31, 0x32))


class BadPreamble(ValueError):
    """These bytes are no header of the PROXY protocol."""


class Preamble:
    """What was said: the client's address, empty if it is the peer's own; and how many bytes."""

    __slots__ = ("client", "size")

    def __init__(self, client: str, size: int) -> None:
        self.client: str = client
        self.size: int = size


def read(data: bytes) -> Preamble | None:
    """The header at the beginning of `data`, None if more is needed. Raises `BadPreamble`."""
    if data[:1] == b"P":
        return _version_1(data)
    if data[: len(SIGNATURE)] != SIGNATURE[: len(data)]:
        raise BadPreamble("no header of the PROXY protocol")
    return _version_2(data)


def _version_1(data: bytes) -> Preamble | None:
    end = data.find(b"\r\n", 0, MAX_LINE)
    if end < 0:
        if len(data) >= MAX_LINE or data[:6] != b"PROXY "[: len(data)]:
            raise BadPreamble("a line that is too long or none")
        return None
    line = data[:end]
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return Preamble("", end + 2)
    found = _LINE.fullmatch(line)
    if found is None or int(found[4]) > 65535 or int(found[5]) > 65535:
        raise BadPreamble("a line that is not PROXY, family, addresses and ports")
    try:
        source, target = (ip_address(found[index].decode("ascii")) for index in (2, 3))
    except ValueError:
        raise BadPreamble("an address that is none") from None
    if {source.version, target.version} != {4 if found[1] == b"TCP4" else 6}:
        raise BadPreamble("an address of another family")
    return Preamble(str(source), end + 2)


def _version_2(data: bytes) -> Preamble | None:
    if len(data) < 16:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY) or length > MAX_BODY:
        raise BadPreamble("a version, command or length that is unknown")
    needed = _SIZES.get(family, 0)
    if family not in _OTHERS and (not needed or (command == _PROXY and length < needed)):
        raise BadPreamble("a family that is unknown, or addresses that are too short")
    end = 16 + length
    if len(data) < end:
        return None
    _check_extensions(data[16 + needed : end] if command == _PROXY and needed else b"")
    if command == _LOCAL or not needed:
        return Preamble("", end)
    if family == 0x11:
        return Preamble(str(IPv4Address(data[16:20])), end)
    return Preamble(str(IPv6Address(data[16:32])), end)


def _check_extensions(data: bytes) -> None:
    """Type, length and value, again and again: nothing is read of them, but they must fit."""
    while data:
        if len(data) < 3 or len(data) < (size := 3 + int.from_bytes(data[1:3], "big")):
            raise BadPreamble("an extension that is cut short")
        data = data[size:]
