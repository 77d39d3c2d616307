import hashlib
from dataclasses import replace

import pytest

from seawall.errors import Misconfigured
from seawall.identity.api_keys import ApiKey, ApiKeys, new_api_key
from seawall.identity.claims import Expired, NotAuthentic, TokenTooLarge, UnknownApiKey


def test_a_new_key_is_accepted_and_kept_as_a_hash() -> None:
    secret, record = new_api_key("ci", scopes=["write", "read"])
    assert secret not in repr(record)
    claims = ApiKeys([record]).verify(secret, 0.0)
    assert (claims.subject, claims.scopes, claims.issuer) == ("ci", ("read", "write"), "api-key")
    assert len({new_api_key("ci")[0] for _ in range(50)}) == 50


def test_a_key_of_ones_own_may_be_given_by_its_hash() -> None:
    digest = hashlib.sha256(b"my long key").hexdigest().upper()
    keys = ApiKeys([ApiKey(sha256=digest, subject="ann")])
    assert keys.verify("my long key", 0.0).subject == "ann"


@pytest.mark.parametrize("presented", ["", "x", "sw_", "\ud800", "ä", "a\r\nb"])
def test_anything_else_is_refused(presented: str) -> None:
    _, record = new_api_key("ci")
    for keys in (ApiKeys([]), ApiKeys([record])):
        with pytest.raises(UnknownApiKey):
            keys.verify(presented, 0.0)


def test_the_hash_itself_is_no_key() -> None:
    _, record = new_api_key("ci")
    with pytest.raises(NotAuthentic):
        ApiKeys([record]).verify(record.sha256, 0.0)


def test_a_huge_key_is_not_even_hashed() -> None:
    with pytest.raises(TokenTooLarge):
        ApiKeys([]).verify("x" * 10_000, 0.0)


def test_a_key_may_expire() -> None:
    secret, record = new_api_key("ci", expires_at=100.0)
    assert ApiKeys([record]).verify(secret, 99.9)
    with pytest.raises(Expired):
        ApiKeys([record]).verify(secret, 100.0)


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "a" * 63])
def test_what_is_no_hash_is_a_persons_to_mend(digest: str) -> None:
    with pytest.raises(Misconfigured, match="ci's API key"):
        ApiKey(sha256=digest, subject="ci")


def test_who_holds_a_key_fits_into_a_header() -> None:
    for bad in ({"subject": "a\nb"}, {"subject": "a", "scopes": ("x\r\ny",)}):
        with pytest.raises(Misconfigured, match="one line"):
            ApiKey(sha256="a" * 64, **bad)  # type: ignore[arg-type]


def test_a_key_may_have_a_plan() -> None:
    secret, record = new_api_key("ann")
    assert ApiKeys([replace(record, plan="gold")]).verify(secret, 0.0).plan == "gold"
    assert ApiKeys([record]).verify(secret, 0.0).plan == ""
