"""CloudEvents 1.0 as headers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.wire.envelope import (
    STRUCTURED,
    BadEnvelope,
    Envelope,
    from_headers,
    is_binary,
    to_binary,
    to_headers,
    to_structured,
)

ENVELOPE = Envelope(
    id="1", type="order.placed", source="/orders", time=1_700_000_000.25, subject="order-7",
    extensions={"traceparent": "00-ab-cd-01", "replyto": "orders.replies"},
)  # fmt: skip

BINARY = to_headers(ENVELOPE)

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20)


def test_the_headers_of_an_event() -> None:
    assert to_headers(ENVELOPE) == {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-type": "order.placed",
        "ce-source": "/orders",
        "ce-time": "2023-11-14T22:13:20.250000+00:00",
        "ce-subject": "order-7",
        "ce-traceparent": "00-ab-cd-01",
        "ce-replyto": "orders.replies",
    }


@given(
    st.builds(
        Envelope,
        id=st.text(min_size=1),
        type=st.text(min_size=1),
        source=st.text(min_size=1),
        time=st.integers(0, 4_000_000_000).map(float),
        subject=st.none() | st.text(),
        extensions=st.dictionaries(
            NAMES.filter(lambda n: n not in {"specversion", "id", "type", "source", "time",
                                             "subject"}),
            st.text(),
        ),
    )
)  # fmt: skip
def test_what_is_written_is_read_back(envelope: Envelope) -> None:
    assert from_headers(to_headers(envelope)) == envelope


@pytest.mark.parametrize("missing", ["ce-specversion", "ce-id", "ce-type", "ce-source"])
def test_a_required_attribute_is_missing(missing: str) -> None:
    headers = to_headers(ENVELOPE)
    del headers[missing]
    with pytest.raises(BadEnvelope, match=missing):
        from_headers(headers)


@pytest.mark.parametrize(
    "wrong", [{"ce-specversion": "2.0"}, {"ce-specversion": ""}, {"ce-time": "yesterday"}]
)
def test_an_attribute_is_wrong(wrong: dict[str, str]) -> None:
    with pytest.raises(BadEnvelope):
        from_headers(to_headers(ENVELOPE) | wrong)


def test_optional_attributes_have_their_defaults() -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "/s"}
    envelope = from_headers(headers)
    assert (envelope.time, envelope.subject) == (0.0, None)
    assert envelope.content_type == "application/json"


def test_other_headers_are_not_extensions() -> None:
    headers = to_headers(ENVELOPE) | {"x-request-id": "r", "traceparent": "t"}
    assert from_headers(headers) == ENVELOPE


def test_times_are_read_in_any_offset() -> None:
    headers = to_headers(ENVELOPE) | {"ce-time": "2023-11-15T00:13:20.25+02:00"}
    assert from_headers(headers).time == ENVELOPE.time


def test_an_event_in_structured_mode() -> None:
    headers, body = to_structured(BINARY, b'{"n": 1}')
    assert headers == BINARY | {"content-type": STRUCTURED}
    assert json.loads(body) == {
        "specversion": "1.0",
        "id": "1",
        "type": "order.placed",
        "source": "/orders",
        "time": "2023-11-14T22:13:20.250000+00:00",
        "subject": "order-7",
        "traceparent": "00-ab-cd-01",
        "replyto": "orders.replies",
        "datacontenttype": "application/json",
        "data": {"n": 1},
    }
    assert not is_binary(headers)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner)))
def test_an_event_in_structured_mode_is_read_back(value: object) -> None:
    body = json.dumps(value).encode()
    assert to_binary(*to_structured(BINARY, body)) == (BINARY, body)
    assert is_binary(BINARY)


@pytest.mark.parametrize("prefix", ["ce_", "cloudEvents:", "cloudEvents_", "Ce-"])
def test_the_headers_of_every_binding_are_read(prefix: str) -> None:
    spelled = {name.replace("ce-", prefix): value for name, value in BINARY.items()}
    spelled["Content-Type"] = spelled.pop("content-type")
    assert not is_binary(spelled)
    assert to_binary(spelled, b"{}") == (BINARY, b"{}")


def test_what_is_no_event_stays_as_it_is() -> None:
    assert to_binary({"correlation_id": "7"}, b"{}") == ({"correlation_id": "7"}, b"{}")


def structured(**members: object) -> tuple[dict[str, str], bytes]:
    event = {"specversion": "1.0", "id": "1", "type": "t", "source": "/s", **members}
    return to_binary({"content-type": f"{STRUCTURED}; charset=utf-8"}, json.dumps(event).encode())


@pytest.mark.parametrize(
    ("members", "content_type", "body"),
    [
        ({"data": {"a": 1}}, "application/json", b'{"a": 1}'),
        ({"data": "x"}, "application/json", b'"x"'),
        ({"data": "<a/>", "datacontenttype": "text/xml"}, "text/xml", b"<a/>"),
        ({"data_base64": "AP8="}, "application/json", b"\x00\xff"),
        ({"data": [1], "datacontenttype": "application/x+json"}, "application/x+json", b"[1]"),
        ({}, "application/json", b""),
    ],
)
def test_the_data_of_a_structured_event(
    members: dict[str, object], content_type: str, body: bytes
) -> None:
    headers, found = structured(**members, count=5, sampled=True)
    assert (headers["content-type"], found) == (content_type, body)
    assert (headers["ce-count"], headers["ce-sampled"]) == ("5", "true")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (STRUCTURED, b"{"),
        (STRUCTURED, b"[]"),
        (STRUCTURED, b'{"specversion": "1.0", "id": "1", "type": "t"}'),
        (STRUCTURED, b'{"specversion": "3.0", "id": "1", "type": "t", "source": "s"}'),
        (STRUCTURED, b'{"specversion": "1.0", "data_base64": "?"}'),
        ("application/cloudevents-batch+json", b"[]"),
        ("application/cloudevents+avro", b""),
    ],
)
def test_a_structured_event_that_cannot_be_read(content_type: str, body: bytes) -> None:
    with pytest.raises(BadEnvelope):
        to_binary({"content-type": content_type}, body)
