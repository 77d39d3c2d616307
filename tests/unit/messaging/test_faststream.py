"""Entries that FastStream wrote."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from seawall.messaging.transports import faststream
from seawall.messaging.transports.entries import message_of


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


def entry(headers: dict[str, str], body: bytes) -> bytes:
    pairs = b"".join(text(name) + text(value) for name, value in headers.items())
    at = 8 + 2 + 4 + 4
    head = b"\x89BIN\r\n\x1a\n" + struct.pack(">HII", 1, at, at + 2 + len(pairs))
    return head + struct.pack(">H", len(headers)) + pairs + body


TEXT = st.text(max_size=20)


@given(st.dictionaries(TEXT, TEXT, max_size=4), st.binary())
def test_headers_and_body(headers: dict[str, str], body: bytes) -> None:
    assert faststream.read(entry(headers, body)) == (headers, body)


@given(st.dictionaries(TEXT, TEXT, max_size=2), st.binary(max_size=9), st.integers(0, 60))
def test_a_torn_entry_is_a_body(headers: dict[str, str], body: bytes, cut: int) -> None:
    whole = entry(headers, body)
    torn = whole[: min(cut, len(whole) - len(body) - 1)]
    assert faststream.read(torn) == ({}, torn)


def test_json_from_before() -> None:
    told = b'{"data": "{}", "headers": {"correlation_id": "7"}}'
    assert faststream.read(told) == ({"correlation_id": "7"}, b"{}")
    assert faststream.read(b"[1]") == ({}, b"[1]")


def test_a_stream_entry_is_understood() -> None:
    fields = [b"__data__", entry({"content-type": "application/json"}, b"[]")]
    message, damage = message_of(b"3-1", fields)
    assert (message.id, message.body, damage) == ("3-1", b"[]", "")
    assert message.headers == {"content-type": "application/json"}
