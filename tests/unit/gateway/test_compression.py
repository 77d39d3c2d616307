import sys
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.gateway.coding import Coder, Compress, Room, packer
from seawall.gateway.compression import (
    Compression,
    chosen,
    encoded,
    forbids,
    is_compressible,
    vary,
)
from seawall.wire.chunked import Chunked
from seawall.wire.http1 import CHUNKED, UNTIL_CLOSE, ResponseHead, scan_request

OFFERED = (b"zstd", b"br", b"gzip")


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (b"", b""),
        (b"gzip", b"gzip"),
        (b"GZIP", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"gzip;q=1.0, br;q=0.9", b"gzip"),
        (b"gzip;q=0.5, br; q=0.5", b"br"),
        (b"deflate", b""),
        (b"*", b"zstd"),
        (b"*, zstd;q=0", b"br"),
        (b"*;q=0, gzip", b"gzip"),
        (b"gzip;q=0", b""),
        (b"gzip;q=0.000", b""),
        (b"identity", b""),
        (b"identity, gzip", b"gzip"),
        (b"identity, gzip;q=0.5", b""),
        (b"identity;q=0", b""),
        (b"gzip;q=1.5", b""),
        (b"gzip;level=9", b""),
        (b"gzip;q=1;q=1", b""),
        (b",, gzip ,", b"gzip"),
    ],
)
def test_what_a_client_likes_best(accept: bytes, coding: bytes) -> None:
    assert chosen(accept, OFFERED) == coding


@given(st.binary(max_size=60))
def test_any_field_chooses_something_that_is_offered(accept: bytes) -> None:
    assert chosen(accept, OFFERED) in (*OFFERED, b"")


def answer(*lines: bytes, status: int = 200, body: int = 5000) -> ResponseHead:
    head = ResponseHead(status, b"HTTP/1.1 %d X" % status)
    head.lines = list(lines)
    head.body = body
    return head


JSON = b"content-type: application/json"


@pytest.mark.parametrize(
    ("head", "yes"),
    [
        (answer(JSON), True),
        (answer(JSON, body=CHUNKED), True),
        (answer(JSON, body=UNTIL_CLOSE), True),
        (answer(JSON, body=1024), True),
        (answer(JSON, body=1023), False),
        (answer(JSON, body=0), False),
        (answer(JSON, status=404), True),
        (answer(JSON, status=206), False),
        (answer(JSON, status=204, body=CHUNKED), False),
        (answer(JSON, status=304, body=CHUNKED), False),
        (answer(b"Content-Type:Text/HTML ; charset=utf-8"), True),
        (answer(b"content-type: application/problem+json"), True),
        (answer(b"content-type: image/png"), False),
        (answer(b"content-type: text/event-stream", body=CHUNKED), False),
        (answer(), False),
        (answer(JSON, b"content-encoding: gzip"), False),
        (answer(JSON, b"content-range: bytes 0-1/2"), False),
        (answer(JSON, b"repr-digest: sha-256=:x:"), False),
        (answer(JSON, b"cache-control: public, No-Transform"), False),
        (answer(JSON, b"cache-control: public"), True),
    ],
)
def test_which_answers_are_compressed(head: ResponseHead, yes: bool) -> None:
    assert is_compressible(head, 1024) is yes


def test_the_fields_of_a_compressed_answer() -> None:
    lines = [JSON, b"Content-Length: 5000", b'ETag: "a"', b"accept-ranges: bytes"]
    assert encoded(lines, b"br") == [JSON, b'etag: W/"a"', b"content-encoding: br"]
    assert b'etag: W/"a"' in encoded([b'etag: W/"a"'], b"br")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [b"vary: accept-encoding"]),
        ([b"vary: origin"], [b"vary: origin", b"vary: accept-encoding"]),
        ([b"Vary: origin, Accept-Encoding"], [b"Vary: origin, Accept-Encoding"]),
        ([b"vary: *"], [b"vary: *"]),
    ],
)
def test_an_answer_says_what_it_depends_on(before: list[bytes], after: list[bytes]) -> None:
    assert vary(before) == after


def test_a_client_may_want_nothing_changed() -> None:
    data = b"GET / HTTP/1.1\r\nhost: a\r\ncache-control: max-age=0, no-transform\r\n\r\n"
    assert forbids(scan_request(data, len(data)))


@pytest.mark.parametrize(
    "wrong",
    [{"codings": ("deflate",)}, {"codings": ()}, {"codings": ("br", "br")}, {"min_size": 0}],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        Compression(**wrong)  # type: ignore[arg-type]  # wrong on purpose


UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: zlib.decompress(data, 31),
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
LIBRARIES = {"gzip": zlib, "br": brotli, "zstd": zstandard}


@pytest.mark.parametrize("coding", UNPACK)
@given(pieces=st.lists(st.binary(max_size=300), max_size=8), framed=st.booleans())
def test_what_was_packed_is_what_was_there(coding: str, pieces: list[bytes], framed: bool) -> None:
    room = Room()
    coder = Coder(room, packer(coding.encode(), LIBRARIES[coding]), framed)
    out = b""
    for piece in pieces:
        out += coder.coded(
            b"%x\r\n%b\r\n" % (len(piece), piece) if framed and piece else piece, False
        )
    out += coder.coded(b"0\r\n\r\n" if framed else b"", True)
    chunks = Chunked(unwrap=True)
    data = chunks.feed(out)
    assert chunks.done
    assert not chunks.surplus
    assert UNPACK[coding](data) == b"".join(pieces)
    coder.close()
    assert not room.taken


@pytest.mark.parametrize("coding", UNPACK)
def test_of_an_unknown_length_nothing_is_held_back(coding: str) -> None:
    room = Room()
    coder = Coder(room, packer(coding.encode(), LIBRARIES[coding]), True)
    chunks = Chunked(unwrap=True)
    data = chunks.feed(coder.coded(b"5\r\nfirst\r\n", False))
    assert partly(coding, data) == b"first"


def partly(coding: str, data: bytes) -> bytes:
    """What can be read of something packed that has not ended."""
    if coding == "gzip":
        return zlib.decompressobj(31).decompress(data)
    if coding == "br":
        return bytes(brotli.Decompressor().process(data))
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_a_library_that_is_missing_is_named(coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, {"br": "brotli", "zstd": "zstandard"}[coding], None)
    with pytest.raises(Misconfigured, match="needs the package") as refused:
        Compress(Compression(codings=("gzip", coding)))
    assert "seawall[compression]" in str(refused.value.fix)
    Compress(Compression(codings=("gzip",)))
