"""CloudEvents 1.0 as headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.wire.envelope import BadEnvelope, Envelope, from_headers, to_headers

ENVELOPE = Envelope(
    id="1", type="order.placed", source="/orders", time=1_700_000_000.25, subject="order-7",
    extensions={"traceparent": "00-ab-cd-01", "replyto": "orders.replies"},
)  # fmt: skip

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
