"""NATS' client protocol: bytes in, operations out, and back. Pure.

https://docs.nats.io/reference/reference-protocols/nats-protocol; headers are those of ADR-4, and
credentials (a JWT, and an Ed25519 seed that signs the server's nonce) those of ADR-14. It is
written for many small messages: a chunk of bytes becomes a list of operations in one loop.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from seawall.errors import Misconfigured
from seawall.messaging.transports.nats_headers import END, PLAIN, Headers, parse_block
from seawall.version import __version__

PING, PONG = b"PING\r\n", b"PONG\r\n"

# The longest line before a body. The server's own limit for one is 4 KiB, but what it tells about
# itself names every other server of its cluster.
MAX_LINE = 64 * 1024  # bytes


class BadProtocol(ValueError):
    """What came is not NATS."""


class Msg(NamedTuple):
    """A message that a subscription was given."""

    subject: str
    sid: int
    reply: str
    headers: Mapping[str, str]
    data: bytes
    status: str = ""  # of a message that the server itself wrote: "404", "503"


@dataclass(frozen=True, slots=True)
class Info:
    """What the server told about itself."""

    tls: bool = False  # it speaks nothing but TLS from here on
    headers: bool = True
    max_payload: int = 0
    nonce: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The server's complaint, mostly its last words."""

    text: str


Op = Msg | Info | Failed | bytes  # bytes: `PING` or `PONG`


class Parser:
    """Operations out of bytes, however these are cut."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0  # with fewer bytes there is nothing new to be seen

    def feed(self, data: bytes) -> list[Op]:
        """The operations that are complete now. Raises `BadProtocol`."""
        self._chunks.append(data)
        self._have += len(data)
        if self._have < self._need:
            return []
        if len(self._chunks) > 1:
            data = b"".join(self._chunks)
        ops: list[Op] = []
        at = 0
        try:
            at = self._parse(data, ops)
        except (ValueError, IndexError) as error:
            raise BadProtocol(f"this is not NATS: {data[at : at + 40]!r}") from error
        self._chunks = [data[at:]] if at < len(data) else []
        self._have = len(data) - at
        return ops

    def _parse(self, data: bytes, ops: list[Op]) -> int:
        """Appends to `ops`; returns where the first incomplete one begins."""
        at = self._need = 0
        have = len(data)
        while (end := data.find(b"\r\n", at)) >= 0:
            if data.startswith((b"HMSG ", b"MSG "), at):
                words = data[at:end].split()
                begin = end + 2
                over = begin + int(words[-1])
                if over + 2 > have:
                    self._need = over + 2 - at
                    return at
                ops.append(_message(words, data, begin, over))
                at = over + 2
                continue
            op = _other(data[at:end])
            if op is not None:
                ops.append(op)
            at = end + 2
        if len(data) - at > MAX_LINE:
            raise ValueError
        return at


def _message(words: list[bytes], data: bytes, begin: int, over: int) -> Msg:
    """What a first line said, and what came behind it, from `begin` to `over`."""
    subject, sid = words[1].decode(), int(words[2])
    if words[0] == b"MSG":
        return Msg(subject, sid, words[3].decode() if len(words) == 5 else "", {}, data[begin:over])
    body = begin + int(words[-2])
    block = data[begin:body]
    if body > over or not block.endswith(END):
        raise ValueError(block)
    reply = words[3].decode() if len(words) == 6 else ""
    if block.startswith(PLAIN):
        return Msg(subject, sid, reply, Headers(block), data[body:over])
    status, headers = parse_block(block)
    return Msg(subject, sid, reply, headers, data[body:over], status)


def _other(line: bytes) -> Op | None:
    """What a line says that no body follows."""
    word, _, rest = line.partition(b" ")
    match word.upper():
        case b"PING":
            return PING
        case b"PONG":
            return PONG
        case b"+OK":
            return None
        case b"-ERR":
            return Failed(rest.decode(errors="replace").strip("' "))
        case b"INFO":
            told = json.loads(rest)
            return Info(
                tls=bool(told.get("tls_required")),
                headers=bool(told.get("headers")),
                max_payload=int(told.get("max_payload", 0)),
                nonce=str(told.get("nonce", "")),
            )
    raise ValueError(line)


def publish(subject: str, body: bytes, reply: str = "", headers: bytes = b"") -> bytes:
    """A message to the server; `headers` is a `block`."""
    if headers:
        size = len(headers)
        line = f"HPUB {subject} {reply} {size} {size + len(body)}\r\n"
        return b"%b%b%b\r\n" % (line.encode(), headers, body)
    return b"%b%b\r\n" % (f"PUB {subject} {reply} {len(body)}\r\n".encode(), body)


def publish_to(subjects: Iterable[str], body: bytes) -> bytes:
    """The same small message, in ASCII, to each."""
    rest = f" {len(body)}\r\n{body.decode()}\r\n"
    return "".join([f"PUB {subject}{rest}" for subject in subjects]).encode()


def subscribe(subject: str, sid: int) -> bytes:
    return f"SUB {subject} {sid}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and who we are to it."""

    host: str
    port: int
    user: str = ""
    password: str | None = field(default=None, repr=False)
    tls: bool = False  # nothing is said to a server that does not speak it

    @staticmethod
    def parse(url: str) -> "Server":
        """Read `nats://USER:PASSWORD@HOST:4222`, `nats://TOKEN@HOST` or `tls://...`."""
        parts = urlsplit(url)
        try:
            port = parts.port or 4222
        except ValueError as error:
            raise Misconfigured(f"NATS server {url!r}: {error}") from error
        return Server(
            host=parts.hostname or "localhost",
            port=port,
            user=unquote(parts.username or ""),
            password=None if parts.password is None else unquote(parts.password),
            tls=parts.scheme == "tls",
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def connect(server: Server, name: str, nonce: str, credentials: str = "") -> bytes:
    """Who we are. `credentials` is the text of a credentials file."""
    said: dict[str, Any] = {
        "verbose": False,
        "pedantic": False,
        "lang": "python",
        "version": __version__,
        "protocol": 1,
        "headers": True,
        "no_responders": True,
        "name": name,
    }
    if credentials:
        jwt, seed = section(credentials, "NATS USER JWT"), section(credentials, "USER NKEY SEED")
        said |= {"jwt": jwt, "sig": signature(seed, nonce)}
    elif server.password is not None:
        said |= {"user": server.user, "pass": server.password}
    elif server.user:
        said["auth_token"] = server.user
    return b"CONNECT " + json.dumps(said).encode() + b"\r\n"


def section(credentials: str, title: str) -> str:
    """What a credentials file has between two lines of dashes with this title."""
    lines = iter(credentials.splitlines())
    for line in lines:
        if f"BEGIN {title}" in line:
            return next(lines, "").strip()
    raise Misconfigured(
        f"the NATS credentials have no {title}", fix="a file as `nsc generate creds` writes it"
    )


def signature(seed: str, nonce: str) -> str:
    """The server's nonce, signed by an encoded seed ("SU..."): two bytes of kind before 32 of seed,
    two of checksum behind them, in Base32."""
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
        key = Ed25519PrivateKey.from_private_bytes(raw[2:34])
    except ValueError as error:
        raise Misconfigured("the seed of the NATS credentials cannot be read") from error
    return base64.urlsafe_b64encode(key.sign(nonce.encode())).decode().rstrip("=")
