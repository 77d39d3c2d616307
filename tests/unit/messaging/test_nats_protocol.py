"""NATS' protocol: operations however their bytes are cut, headers, and who we say we are."""

import base64
import json
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.messaging.transports.nats_headers import block, parse_block
from seawall.messaging.transports.nats_protocol import (
    MAX_LINE,
    PING,
    PONG,
    BadProtocol,
    Failed,
    Info,
    Msg,
    Parser,
    Server,
    connect,
    publish,
    section,
    signature,
    subscribe,
)

HEAD = block({"Nats-Msg-Id": "a", "note": "b: c"})

SENT = (
    b'INFO {"tls_required":true,"headers":true,"max_payload":99,"nonce":"n"}\r\n'
    b"PING\r\nPONG\r\n+OK\r\n"
    b"MSG t 1 5\r\nhel\r\n\r\n"
    b"MSG t 12 reply.to 0\r\n\r\n"
    b"HMSG t 1 r %d %d\r\n%bbody\r\n"
    % (len(HEAD), len(HEAD) + 4, HEAD)
    + b"HMSG t 2 28 28\r\nNATS/1.0 404 No Messages\r\n\r\n\r\n"
    b"-ERR 'Authorization Violation'\r\n"
)
SEEN = [
    Info(tls=True, headers=True, max_payload=99, nonce="n"),
    PING,
    PONG,
    Msg("t", 1, "", {}, b"hel\r\n"),
    Msg("t", 12, "reply.to", {}, b""),
    Msg("t", 1, "r", {"Nats-Msg-Id": "a", "note": "b: c"}, b"body"),
    Msg("t", 2, "", {}, b"", "404"),
    Failed("Authorization Violation"),
]


@given(st.lists(st.integers(0, len(SENT)), max_size=8))
def test_operations_are_the_same_however_their_bytes_are_cut(cuts: list[int]) -> None:
    parser = Parser()
    places = [0, *sorted(cuts), len(SENT)]
    seen = [op for begin, end in pairwise(places) for op in parser.feed(SENT[begin:end])]
    assert seen == SEEN


def test_every_byte_may_come_alone() -> None:
    parser = Parser()
    assert [op for byte in SENT for op in parser.feed(bytes([byte]))] == SEEN


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"MSG t\r\n",
        b"MSG t one 2\r\nab\r\n",
        b"x" * (MAX_LINE + 1),
    ],
)
def test_what_is_not_nats_is_refused(sent: bytes) -> None:
    with pytest.raises(BadProtocol):
        Parser().feed(sent)


def test_headers_are_read_as_others_write_them() -> None:
    read = parse_block(b"NATS/1.0 503\r\na:b\r\nc :  d \r\nodd\r\na: last\r\n\r\n")
    assert read == ("503", {"a": "last", "c ": "d"})


def test_what_is_sent() -> None:
    assert publish("s", b"ab") == b"PUB s  2\r\nab\r\n"
    assert publish("s", b"ab", "r") == b"PUB s r 2\r\nab\r\n"
    assert publish("s", b"ab", "r", HEAD).startswith(
        b"HPUB s r %d %d\r\n" % (len(HEAD), len(HEAD) + 2)
    )
    assert subscribe("s.*", 3) == b"SUB s.* 3\r\n"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nats://h", Server("h", 4222)),
        ("tls://me:p%40ss@h:1", Server("h", 1, "me", "p@ss", tls=True)),
        ("nats://token@h", Server("h", 4222, "token")),
    ],
)
def test_servers(url: str, expected: Server) -> None:
    assert Server.parse(url) == expected
    assert "p@ss" not in repr(Server.parse(url))


def test_a_port_that_is_none_is_told() -> None:
    with pytest.raises(Misconfigured, match="Port"):
        Server.parse("nats://h:99999")


def said(url: str, credentials: str = "") -> dict[str, object]:
    line = connect(Server.parse(url), "me", "nonce", credentials)
    assert line.startswith(b"CONNECT ")
    return dict(json.loads(line.removeprefix(b"CONNECT ")))


def test_who_we_are() -> None:
    assert said("nats://u:p@h") | {"user": "u", "pass": "p", "name": "me"} == said("nats://u:p@h")
    assert said("nats://t@h")["auth_token"] == "t"
    assert not {"user", "auth_token", "jwt"} & said("nats://h").keys()


def test_credentials_sign_the_nonce() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    seed = base64.b32encode(b"\x95\x00" + bytes(range(32)) + b"\x00\x00").decode().rstrip("=")
    file = f"""-----BEGIN NATS USER JWT-----
a.b.c
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""
    told = said("nats://h", file)
    assert told["jwt"] == "a.b.c"
    signed = base64.urlsafe_b64decode(str(told["sig"]) + "==")
    key.public_key().verify(signed, b"nonce")  # raises if it is not


def test_credentials_that_are_none_are_told() -> None:
    with pytest.raises(Misconfigured, match="no NATS USER JWT"):
        section("hello", "NATS USER JWT")
    for seed in ("!", "AAAA"):
        with pytest.raises(Misconfigured, match="seed"):
            signature(seed, "nonce")
