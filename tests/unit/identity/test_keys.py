import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk

from seawall.errors import Misconfigured
from seawall.identity.claims import UnknownKey, WrongAlgorithm
from seawall.identity.keys import (
    LocalKeys,
    key_from_jwk,
    key_from_pem,
    key_from_secret,
    keys_from_bytes,
    keys_from_file,
    keys_from_jwks,
)
from seawall.identity.signing import SigningKey, jwks

EC = jwk.ECKey.generate_key("P-256")
RSA = jwk.RSAKey.generate_key(2048)
ED = jwk.OKPKey.generate_key("Ed25519")


def public(key: jwk.Key, **more: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), **more}


@pytest.mark.parametrize(
    ("member", "algorithm"),
    [
        (public(EC), "ES256"),
        (public(jwk.ECKey.generate_key("P-384")), "ES384"),
        (public(jwk.ECKey.generate_key("P-521")), "ES512"),
        (public(ED), "EdDSA"),
        (public(ED, alg="Ed25519"), "EdDSA"),
        (public(RSA), "RS256"),
        (public(RSA, alg="PS512"), "PS512"),
        ({"kty": "oct", "k": "YQ" * 60, "alg": "HS512"}, "HS512"),
    ],
)
def test_the_algorithm_is_fixed_by_the_key(member: dict[str, Any], algorithm: str) -> None:
    assert key_from_jwk(member).algorithm == algorithm


@pytest.mark.parametrize(
    "member",
    [
        {},
        {"kty": "EC"},
        {"kty": "alien"},
        public(EC, alg="RS256"),
        public(EC, alg="ES384"),
        public(EC, alg="HS256"),
        public(EC, alg="none"),
        public(EC, alg=7),
        public(EC, use="enc"),
        public(ED, alg="ES256"),
        public(jwk.OKPKey.generate_key("X25519")),
        public(jwk.ECKey.generate_key("secp256k1")),
        {"kty": "oct", "k": "c2hvcnQ"},
        {"kty": "oct", "k": "YQ" * 30, "alg": "HS512"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
    ],
    ids=range(15),  # keys are made anew in each worker
)
def test_what_cannot_check_safely_is_no_key(member: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        key_from_jwk(member)


@pytest.mark.parametrize(
    ("key", "algorithm"), [(EC, "ES256"), (RSA, "RS256"), (ED, "EdDSA")], ids=["EC", "RSA", "OKP"]
)
@pytest.mark.parametrize("private", [False, True])
def test_pem(key: jwk.ECKey | jwk.RSAKey | jwk.OKPKey, algorithm: str, private: bool) -> None:
    pem = key.as_pem(private=private)
    assert key_from_pem(pem).algorithm == algorithm
    assert keys_from_bytes(pem).find("any name", algorithm).algorithm == algorithm


def test_a_pem_may_be_told_its_algorithm_if_it_fits() -> None:
    assert key_from_pem(RSA.as_pem(), algorithm="PS256", kid="k").algorithm == "PS256"
    with pytest.raises(Misconfigured):
        key_from_pem(RSA.as_pem(), algorithm="ES256")


def test_a_name_is_looked_up_exactly() -> None:
    keys = keys_from_jwks({"keys": [public(EC, kid="a"), public(RSA, kid="b")]})
    assert keys.find("a", "ES256").kid == "a"
    assert keys.find("b", "RS256").kid == "b"
    with pytest.raises(WrongAlgorithm):
        keys.find("b", "ES256")
    for name in ("", "A", "c"):
        with pytest.raises(UnknownKey):
            keys.find(name, "ES256")


def test_without_a_name_the_only_key_of_the_algorithm_fits() -> None:
    keys = keys_from_jwks({"keys": [public(EC, kid="a"), public(RSA, kid="b")]})
    assert keys.find(None, "RS256").kid == "b"
    other = jwk.ECKey.generate_key("P-256")
    twins = keys_from_jwks({"keys": [public(EC, kid="a"), public(other, kid="c")]})
    with pytest.raises(UnknownKey):
        twins.find(None, "ES256")


def test_a_key_without_a_name_serves_any_name_only_if_alone() -> None:
    alone = keys_from_jwks(public(EC))
    assert alone.find("x", "ES256").algorithm == "ES256"
    beside = keys_from_jwks({"keys": [public(EC), public(RSA, kid="b")]})
    with pytest.raises(UnknownKey):
        beside.find("x", "ES256")


def test_the_first_of_two_keys_of_one_name_counts() -> None:
    keys = keys_from_jwks({"keys": [public(EC, kid="a"), public(RSA, kid="a")]})
    assert keys.find("a", "ES256").algorithm == "ES256"
    assert len(keys) == 1


def test_useless_members_are_left_out() -> None:
    document = {"keys": [7, {"kty": "alien"}, public(RSA, use="enc"), public(EC, kid="a")]}
    assert len(keys_from_jwks(document)) == 1


def test_a_published_set_has_no_secrets() -> None:
    secret = {"kty": "oct", "k": "YQ" * 60}
    assert len(keys_from_jwks({"keys": [secret]})) == 1
    with pytest.raises(Misconfigured, match="shared secret"):
        keys_from_jwks({"keys": [secret]}, public_only=True)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{}", b"[]", b"null", b'{"keys":{}}', b'{"keys":[]}', b"\xff", b"[" * 100_000),
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        json.dumps({"keys": [public(EC)] * 101}).encode(),
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_a_bad_document_is_a_persons_to_mend(content: bytes) -> None:
    with pytest.raises(Misconfigured):
        keys_from_bytes(content)


def test_keys_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    with pytest.raises(Misconfigured, match=r"jwks\.json cannot be read"):
        keys_from_file(path)
    path.write_text("{}")
    with pytest.raises(Misconfigured, match=r"jwks\.json: there is no usable key"):
        keys_from_file(path)
    path.write_text(json.dumps({"keys": [public(EC, kid="a")]}))
    assert keys_from_file(path).find("a", "ES256")


def test_short_secrets_are_refused() -> None:
    with pytest.raises(Misconfigured, match="32 bytes"):
        key_from_secret("password")
    with pytest.raises(Misconfigured, match="must not be used"):
        key_from_secret(RSA.as_pem(private=False))
    with pytest.raises(Misconfigured):
        LocalKeys([])


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_a_signing_key_is_kept_for_its_owner(tmp_path: Path, algorithm: Any) -> None:
    path = tmp_path / "deep" / "key.json"
    made = SigningKey.load_or_create(path, algorithm)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = SigningKey.load_or_create(path, algorithm)
    assert (again.kid, again.algorithm) == (made.kid, algorithm)
    assert made.verify_key().verifies(b"message", again.sign(b"message"))
    assert not made.verify_key().verifies(b"massage", again.sign(b"message"))
    assert os.listdir(path.parent) == ["key.json"]


def test_replicas_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: SigningKey.load_or_create(path), range(16)))
    assert len({key.kid for key in made}) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "7", json.dumps(public(EC)), "{}"])
def test_a_file_that_holds_no_signing_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(Misconfigured):
        SigningKey.load_or_create(path)
    assert path.read_text() == content


def test_only_public_halves_are_published_and_nothing_is_printed() -> None:
    key = SigningKey.generate()
    (member,) = jwks(key)["keys"]
    assert "d" not in member
    assert member["kid"] == key.kid
    private = key.key.as_dict(private=True)["d"]
    assert isinstance(private, str)
    assert private not in repr(key)
