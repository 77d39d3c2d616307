"""Request targets: one canonical path, which matching, authorisation and forwarding all use.

Two programs that read one path differently are a way around authorisation (CVE-2019-9901,
CVE-2025-66490), so there is one reading here, and what has no single reading is refused:
encoded slashes, backslashes and controls, broken escapes, bytes that are not UTF-8, `..` above the
root or with parameters.
"""

import re
from typing import Final


class BadTarget(ValueError):
    """The target has no single meaning."""


# RFC 3986 `pchar` and "/". Besides them, what browsers leave bare in a path (WHATWG URL).
_PATH: Final = (
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/%|[]"
)
_QUERY: Final = _PATH + b"?^`{}\\"
# A path that is canonical as it is: no escapes, no empty and no dot segments. Most are.
PLAIN: Final = re.compile(
    rb"(?:/[A-Za-z0-9\-_~!$&'()*+,;=:@|\[\]][A-Za-z0-9\-._~!$&'()*+,;=:@|\[\]]*)+/?|/"
)

_SLASH: Final = 0x2F
_DOT: Final = 0x2E
IN_PLAIN: Final = bytes(byte in _PATH and byte != ord("%") for byte in range(256))
_COMPILED: Final = not __file__.endswith(".py")

_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)
# Encoded, these are read in two ways; no honest path holds a control character.
_REFUSED: Final = frozenset([*b"/\\", *range(32), 127])
# To servers that cut parameters off each segment (Tomcat), `..;x` is `..`.
_DOTS_WITH_PARAMETERS: Final = re.compile(rb"\.{1,2}(?:;|%3B)")
_HOST: Final = re.compile(
    rb"([A-Za-z0-9_](?:[A-Za-z0-9_.\-]{0,253}[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)

_AUTHORITY: Final = re.compile(rb"http://([^/?]+)", re.IGNORECASE)


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """The canonical path and the query, with its "?" or empty, of a target in origin form.

    Raises `BadTarget`.
    """
    if is_plain(target):
        return target, b""
    path, mark, query = target.partition(b"?")
    if not is_plain(path):
        path = canonical(path)
    if mark and query.translate(None, _QUERY):
        raise BadTarget("a character that a query cannot hold")
    return path, mark + query


def is_plain(path: bytes) -> bool:
    """Whether `path` is canonical as it is."""
    return walks_plain(path) if _COMPILED else PLAIN.fullmatch(path) is not None


def walks_plain(path: bytes) -> bool:
    """The same, a byte at a time: for compiled code, which the regular expression costs more."""
    before = 0
    for index in range(len(path)):
        byte = path[index]
        if not IN_PLAIN[byte]:
            return False
        if before == _SLASH and byte in (_SLASH, _DOT):
            return False
        before = byte
    return path[:1] == b"/"


def canonical(path: bytes) -> bytes:
    """Decode what need not be encoded, merge slashes, resolve dot segments (RFC 3986, 6.2.2).

    Idempotent. Raises `BadTarget`.
    """
    if path.translate(None, _PATH) or path[:1] != b"/":
        raise BadTarget("a character that a path cannot hold")
    if b"%" in path:
        path = _unescaped(path)
    kept: list[bytes] = []
    parts = path.split(b"/")
    for part in parts:
        if part == b"..":
            if not kept:
                raise BadTarget(".. leads above the root")
            kept.pop()
        elif part[:1] == b"." and _DOTS_WITH_PARAMETERS.match(part):
            raise BadTarget("a dot segment with parameters")
        elif part and part != b".":
            kept.append(part)
    ends_in_folder = parts[-1] in (b"", b".", b"..")
    joined = b"/" + b"/".join(kept)
    return joined + b"/" if ends_in_folder and kept else joined


def is_canonical(path: bytes) -> bool:
    """Whether a path reads as it is written, and so may be passed on."""
    if is_plain(path):
        return True
    try:
        return canonical(path) == path
    except BadTarget:
        return False


def split_url(target: bytes) -> tuple[bytes, bytes, bytes]:
    """Authority, canonical path and query of an http URL (absolute form). Raises `BadTarget`."""
    match = _AUTHORITY.match(target)
    if match is None:
        raise BadTarget("a URL that names nobody")
    rest = target[match.end() :]
    return match[1], *split_target(rest if rest[:1] == b"/" else b"/" + rest)


def _unescaped(path: bytes) -> bytes:
    pieces = path.split(b"%")
    text = bytearray(pieces[0])  # as the other side will decode it
    kept = bytearray(pieces[0])
    for piece in pieces[1:]:
        try:
            byte = int(piece[:2].decode("ascii") if len(piece) >= 2 else "", 16)
        except ValueError:
            raise BadTarget("a broken % escape") from None
        if byte in _REFUSED or piece[:1] in (b"+", b"-", b"_"):
            raise BadTarget("an encoded slash, backslash or control, or a broken escape")
        kept += bytes((byte,)) if byte in _UNRESERVED else b"%%%02X" % byte
        text.append(byte)
        kept += piece[2:]
        text += piece[2:]
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise BadTarget("a path that is not UTF-8") from None
    return bytes(kept)


# What `host_name` found, of values that were looked at lately: the names one gateway answers to
# are few, and more only cost who sends them.
HOSTS: Final[dict[bytes, bytes]] = {}
MAX_HOSTS: Final = 1024


def host_name(value: bytes) -> bytes | None:
    """The host of a `Host` field's value, lower case and without port; None if it is invalid."""
    name = HOSTS.get(value)
    if name is None:
        match = _HOST.fullmatch(value)
        if match is None or b".." in value:
            return None
        name = match[1].lower().rstrip(b".")
        if not name:
            return None
        if len(HOSTS) >= MAX_HOSTS:
            HOSTS.clear()
        HOSTS[value] = name
    return name
