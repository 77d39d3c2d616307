import pytest

from seawall.wire import headers
from seawall.wire.headers import (
    REQUEST_KINDS,
    RESPONSE_KINDS,
    reported_kind,
    request_kind,
    response_kind,
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"Host", headers.HOST),
        (b"hOsT", headers.HOST),
        (b"CONTENT-LENGTH", headers.CONTENT_LENGTH),
        (b"Keep-Alive", headers.HOP),
        (b"Proxy-Authorization", headers.HOP),
        (b"HTTP2-Settings", headers.HOP),
        (b"TE", headers.TE),
        (b"X-Identity-Subject", headers.FORBIDDEN),
        (b"Range", headers.RANGE),
        (b"X-Forwarded-Tomorrow", headers.UNBELIEVED),
        (b"X_Forwarded_Tomorrow", headers.FORBIDDEN),
        (b"X-Identity-Tomorrow", headers.FORBIDDEN),
        (b"X-User-Id", headers.UNBELIEVED),
        (b"X_User_Id", headers.FORBIDDEN),
        (b"X-User-Agent", headers.PLAIN),
        (b"X-Anything", headers.PLAIN),
        (b"x_anything", headers.PLAIN),
        (b"", headers.INVALID),
        (b"a b", headers.INVALID),
        (b"a\xe9", headers.INVALID),
        (b"a" * 257, headers.INVALID),
    ],
)
def test_names_are_known_whatever_their_case(name: bytes, kind: int) -> None:
    assert request_kind(name) == kind


@pytest.mark.parametrize(
    "name",
    [b"Transfer_Encoding", b"X_Forwarded_For", b"x-identity_subject", b"CONTENT_LENGTH", b"_host"],
)
def test_twins_with_underscores_are_not_passed_on(name: bytes) -> None:
    expected = headers.PLAIN if name == b"_host" else headers.FORBIDDEN
    assert request_kind(name) == expected


def test_the_tables_agree_with_the_functions() -> None:
    assert all(reported_kind(name) == kind for name, kind in REQUEST_KINDS.items())
    assert all(response_kind(name) == kind for name, kind in RESPONSE_KINDS.items())


def test_a_response_may_name_what_a_request_may_not() -> None:
    assert response_kind(b"X-User-Id") == headers.PLAIN
    assert response_kind(b"Content_Length") == headers.FORBIDDEN


def test_a_list_is_split_into_its_members() -> None:
    assert headers.tokens(b"Close, ,\tX-A ,") == [b"close", b"x-a"]
