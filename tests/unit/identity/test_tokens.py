"""Tokens, good and bad. The bad ones are those of RFC 8725 and of the field's advisories."""

import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk
from joserfc.jws import JWSRegistry

from seawall.errors import Misconfigured
from seawall.identity.claims import (
    BadSignature,
    Claims,
    Expired,
    Malformed,
    NotAuthentic,
    NotYetValid,
    TokenTooLarge,
    UnknownKey,
    WrongAlgorithm,
    WrongAudience,
    WrongIssuer,
)
from seawall.identity.keys import (
    ALGORITHMS,
    LocalKeys,
    VerifyKey,
    key_from_jwk,
    key_from_secret,
    keys_from_jwks,
)
from seawall.identity.signing import SigningKey, jwks
from seawall.identity.tokens import MAX_TOKEN, TokenIssuer, TokenRules, TokenVerifier

NOW = 1_700_000_000.0
SECRET = "0123456789abcdef" * 4
RULES = TokenRules(issuer="https://users", audience="shop", leeway=10)
GOOD: Mapping[str, Any] = {
    "iss": "https://users",
    "sub": "ann",
    "aud": "shop",
    "exp": NOW + 60,
    "iat": NOW,
}
SIGNER = SigningKey.generate("ES256")
VERIFIER_KEYS = keys_from_jwks(jwks(SIGNER))


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(
    body: Mapping[str, Any] | bytes = GOOD,
    head: Mapping[str, Any] | bytes | None = None,
    *,
    key: jwk.Key = SIGNER.key,
    algorithm: str = "ES256",
) -> str:
    """A token with exactly these parts, rightly signed."""
    head = {"alg": algorithm, "kid": SIGNER.kid} if head is None else head
    parts = [b64(p if isinstance(p, bytes) else json.dumps(p).encode()) for p in (head, body)]
    signature = JWSRegistry.algorithms[algorithm].sign(".".join(parts).encode(), key)
    return ".".join([*parts, b64(signature)])


def verifier(keys: LocalKeys = VERIFIER_KEYS, rules: TokenRules = RULES) -> TokenVerifier:
    return TokenVerifier(keys, rules)


def test_a_good_token_is_believed() -> None:
    token = signed({**GOOD, "scope": "write read", "jti": "t1", "tenant": 7})
    assert verifier().verify(token, NOW) == Claims(
        subject="ann",
        issuer="https://users",
        scopes=("read", "write"),
        audience=("shop",),
        expires_at=NOW + 60,
        issued_at=NOW,
        token_id="t1",
        extra={"tenant": 7},
    )


def test_a_claim_may_name_a_plan() -> None:
    rules = replace(RULES, plan_claim="tier")
    for said, plan in (("gold", "gold"), (7, ""), (None, "")):
        token = signed({**GOOD, "tier": said})
        assert verifier(rules=rules).verify(token, NOW).plan == plan
        assert verifier().verify(token, NOW).plan == ""
    assert verifier(rules=rules).verify(signed(GOOD), NOW).plan == ""


RSA = jwk.RSAKey.generate_key(2048)
KEYS: Mapping[str, jwk.Key] = {
    **dict.fromkeys(ALGORITHMS["RSA"], RSA),
    **dict.fromkeys(ALGORITHMS["oct"], jwk.OctKey.import_key(SECRET)),
    "ES256": jwk.ECKey.generate_key("P-256"),
    "ES384": jwk.ECKey.generate_key("P-384"),
    "ES512": jwk.ECKey.generate_key("P-521"),
    "EdDSA": jwk.OKPKey.generate_key("Ed25519"),
}


@pytest.mark.parametrize("algorithm", sorted(KEYS))
def test_every_algorithm(algorithm: str) -> None:
    key = KEYS[algorithm]
    keys = LocalKeys([VerifyKey("k", algorithm, key)])
    token = signed(head={"alg": algorithm, "kid": "k"}, key=key, algorithm=algorithm)
    assert verifier(keys).verify(token, NOW).subject == "ann"
    other = token[:-8] + ("A" * 8 if not token.endswith("A" * 8) else "B" * 8)
    with pytest.raises((BadSignature, Malformed)):
        verifier(keys).verify(other, NOW)


def test_the_two_names_of_eddsa_are_one() -> None:
    key = KEYS["EdDSA"]
    keys = LocalKeys([key_from_jwk({**key.as_dict(private=False), "alg": "Ed25519"})])
    assert isinstance(keys.find(None, "EdDSA"), VerifyKey)
    token = signed(head={"alg": "Ed25519"}, key=key, algorithm="EdDSA")
    assert verifier(keys).verify(token, NOW).subject == "ann"


BAD_HEADS: list[tuple[Any, type[NotAuthentic]]] = [
    ({"alg": "none"}, WrongAlgorithm),
    ({"alg": "None"}, WrongAlgorithm),
    ({"alg": "HS256", "kid": SIGNER.kid}, WrongAlgorithm),
    ({"alg": "ES384", "kid": SIGNER.kid}, WrongAlgorithm),
    ({"alg": "es256", "kid": SIGNER.kid}, WrongAlgorithm),
    ({"alg": ["ES256"], "kid": SIGNER.kid}, WrongAlgorithm),
    ({"alg": None, "kid": SIGNER.kid}, WrongAlgorithm),
    ({"kid": SIGNER.kid}, WrongAlgorithm),
    ({}, WrongAlgorithm),
    ([], Malformed),
    ("ES256", Malformed),
    (b"\xff\xfe", Malformed),
    (b'\xef\xbb\xbf{"alg":"ES256"}', Malformed),
    (b'{"alg":"none","alg":"ES256"}', Malformed),
    (b'{"alg":"ES256","x":NaN}', Malformed),
    (b"[" * 3000, Malformed),
    ({"alg": "ES256", "kid": SIGNER.kid, "crit": ["exp"], "exp": 1}, Malformed),
    ({"alg": "ES256", "kid": SIGNER.kid, "crit": []}, Malformed),
    ({"alg": "ES256", "kid": SIGNER.kid, "crit": ["b64"], "b64": False}, Malformed),
    ({"alg": "ES256", "kid": SIGNER.kid, "b64": False}, Malformed),
    ({"alg": "ES256", "kid": SIGNER.kid, "typ": "dpop+jwt"}, Malformed),
    ({"alg": "ES256", "kid": SIGNER.kid, "typ": 1}, Malformed),
    ({"alg": "ES256", "kid": 7}, Malformed),
    ({"alg": "ES256", "kid": ["a"]}, Malformed),
    ({"alg": "ES256", "kid": ""}, UnknownKey),
    ({"alg": "ES256", "kid": "../../dev/null"}, UnknownKey),
    ({"alg": "ES256", "kid": "' OR 1=1 --"}, UnknownKey),
    ({"alg": "ES256", "kid": "k" * 3000}, UnknownKey),
]


@pytest.mark.parametrize(("head", "error"), BAD_HEADS, ids=range(len(BAD_HEADS)))
def test_a_bad_header_is_refused(head: Any, error: type[NotAuthentic]) -> None:
    raw = head if isinstance(head, bytes) else json.dumps(head).encode()
    with pytest.raises(error):
        verifier().verify(signed(head=raw), NOW)


def test_a_token_cannot_bring_its_own_key() -> None:
    mine = SigningKey.generate("ES256")
    for head in (
        {"alg": "ES256", "jwk": mine.public()},
        {"alg": "ES256", "kid": SIGNER.kid, "jwk": mine.public()},
        {"alg": "ES256", "kid": mine.kid, "jku": "https://evil/jwks", "x5u": "https://evil/x"},
    ):
        with pytest.raises((BadSignature, UnknownKey)):
            verifier().verify(signed(head=head, key=mine.key), NOW)


def test_a_public_key_is_no_shared_secret() -> None:
    public = RSA.as_pem(private=False)
    keys = LocalKeys([VerifyKey("k", "RS256", RSA)])
    parts = ".".join(b64(json.dumps(p).encode()) for p in ({"alg": "HS256", "kid": "k"}, GOOD))
    forged = f"{parts}.{b64(hmac.digest(public, parts.encode(), 'sha256'))}"
    with pytest.raises(WrongAlgorithm):
        verifier(keys).verify(forged, NOW)


def test_a_header_that_we_do_not_know_but_need_not_is_fine() -> None:
    head = {"alg": "ES256", "kid": SIGNER.kid, "typ": "at+JWT", "x5t": "abc", "anything": [1]}
    assert verifier().verify(signed(head=head), NOW).subject == "ann"


BAD_BODIES: list[tuple[Any, type[NotAuthentic]]] = [
    ({"exp": NOW - 11}, Expired),
    ({"exp": 0}, Expired),
    ({"exp": str(NOW + 60)}, Malformed),
    ({"exp": True}, Malformed),
    ({"exp": None}, Malformed),
    ({"exp": -1}, Malformed),
    ({"exp": [NOW]}, Malformed),
    ({"exp": 10**400}, Malformed),
    ({"nbf": NOW + 11}, NotYetValid),
    ({"nbf": "soon"}, Malformed),
    ({"iat": NOW + 11}, NotYetValid),
    ({"iat": {}}, Malformed),
    ({"iss": "https://evil"}, WrongIssuer),
    ({"iss": None}, WrongIssuer),
    ({"iss": ["https://users"]}, WrongIssuer),
    ({"aud": "other"}, WrongAudience),
    ({"aud": []}, WrongAudience),
    ({"aud": ["a", 1, "shop"]}, WrongAudience),
    ({"aud": {"shop": 1}}, WrongAudience),
    ({"sub": ""}, Malformed),
    ({"sub": None}, Malformed),
    ({"sub": 7}, Malformed),
    ({"sub": "a\r\nx-identity-scopes: admin"}, Malformed),
    ({"sub": "\ud800"}, Malformed),
    ({"sub": "a" * 257}, Malformed),
    ({"scope": 7}, Malformed),
    ({"scope": None}, Malformed),
    ({"scope": [1]}, Malformed),
    ({"scope": [["a"]]}, Malformed),
    ({"scope": ["a b"]}, Malformed),
    ({"scope": "a\nb"}, Malformed),
    ({"scope": " ".join(map(str, range(101)))}, Malformed),
]


@pytest.mark.parametrize(("change", "error"), BAD_BODIES, ids=lambda v: str(v)[:40])
def test_a_bad_claim_is_refused(change: dict[str, Any], error: type[NotAuthentic]) -> None:
    with pytest.raises(error):
        verifier().verify(signed({**GOOD, **change}), NOW)


@pytest.mark.parametrize("name", ["exp", "iss", "aud", "sub"])
def test_a_missing_claim_is_refused(name: str) -> None:
    body = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(NotAuthentic):
        verifier().verify(signed(body), NOW)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"null", b"", b'{"sub":"a","sub":"b"}', b'{"exp":1e999}', b'{"exp":Infinity}'],
)
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        verifier().verify(signed(body), NOW)


def test_clocks_may_differ_by_the_leeway() -> None:
    verify = verifier().verify
    assert verify(signed({**GOOD, "exp": NOW - 9.5}), NOW)
    assert verify(signed({**GOOD, "nbf": NOW + 9.5, "iat": NOW + 9.5}), NOW)
    with pytest.raises(Misconfigured):
        TokenRules(leeway=61)


def test_audience_and_scopes_come_in_several_forms() -> None:
    verify = verifier().verify
    assert verify(signed({**GOOD, "aud": ["x", "shop"]}), NOW).audience == ("x", "shop")
    assert verify(signed({**GOOD, "scp": ["b", "a", "a"]}), NOW).scopes == ("a", "b")
    assert verify(signed({**GOOD, "scope": ""}), NOW).scopes == ()


def test_issuer_and_audience_may_be_open() -> None:
    body = {"sub": "ann", "exp": NOW + 1}
    claims = verifier(rules=TokenRules()).verify(signed(body), NOW)
    assert (claims.issuer, claims.audience) == ("", ())


def test_algorithms_may_be_narrowed() -> None:
    with pytest.raises(WrongAlgorithm):
        verifier(rules=TokenRules(algorithms=frozenset({"RS256"}))).verify(signed(), NOW)
    with pytest.raises(Misconfigured, match="none"):
        TokenRules(algorithms=frozenset({"none"}))


def test_a_zero_signature_is_refused() -> None:
    head, body, _ = signed().split(".")
    for signature in (bytes(64), b"", b"\x01", bytes(63), bytes(1000)):
        with pytest.raises(BadSignature):
            verifier().verify(f"{head}.{body}.{b64(signature)}", NOW)


@pytest.mark.parametrize("damage", ["=", "+", "/", " ", "\n", "%41"])
def test_base64_has_one_form(damage: str) -> None:
    with pytest.raises(Malformed):
        verifier().verify(signed() + damage, NOW)


def test_spare_bits_of_base64_are_zero() -> None:
    token = signed()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]
    assert base64.urlsafe_b64decode(twin.split(".")[2] + "==") == base64.urlsafe_b64decode(
        token.split(".")[2] + "=="
    )
    with pytest.raises(Malformed):
        verifier().verify(twin, NOW)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c.d", "....", "ä.b.c", "\x00.b.c"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(NotAuthentic):
        verifier().verify(token, NOW)


def test_a_huge_token_is_refused_by_its_size() -> None:
    with pytest.raises(TokenTooLarge):
        verifier().verify("a" * (MAX_TOKEN + 1), NOW)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_rubbish_is_never_anything_but_refused(text: str) -> None:
    for token in (text, f"{text}.{text}.{text}", signed() + text if text else "."):
        with pytest.raises(NotAuthentic):
            verifier().verify(token, NOW)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=5,
    ),
    st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "scp"]),
)
def test_any_json_in_any_claim_is_believed_or_refused(value: Any, name: str) -> None:
    try:
        claims = verifier().verify(signed({**GOOD, name: value}), NOW)
    except NotAuthentic:
        return
    assert claims.subject.isprintable()
    assert all(scope.isprintable() for scope in claims.scopes)


def test_a_believed_token_is_not_checked_again_until_it_expires() -> None:
    verify, token = verifier(), signed()
    first = verify.verify(token, NOW)
    assert verify.verify(token, NOW + 69) is first
    with pytest.raises(Expired):
        verify.verify(token, NOW + 70)
    with pytest.raises(Expired):
        verify.verify(token, NOW + 71)


def test_the_memory_of_tokens_is_bounded_and_forgets_the_unused() -> None:
    verify = TokenVerifier(VERIFIER_KEYS, RULES, believe=2)
    a, b, c = (signed({**GOOD, "jti": name}) for name in "abc")
    first = verify.verify(a, NOW)
    second = verify.verify(b, NOW)
    assert verify.verify(a, NOW) is first
    verify.verify(c, NOW)
    assert verify.verify(a, NOW) is first
    assert verify.verify(b, NOW) is not second


class _ChangingKeys:
    def __init__(self, keys: LocalKeys) -> None:
        self.keys, self.version = keys, 1

    def find(self, kid: str | None, algorithm: str) -> VerifyKey:
        return self.keys.find(kid, algorithm)


def test_a_key_that_is_withdrawn_takes_its_tokens_with_it() -> None:
    keys = _ChangingKeys(VERIFIER_KEYS)
    verify, token = TokenVerifier(keys, RULES), signed()
    assert verify.verify(token, NOW)
    keys.keys, keys.version = keys_from_jwks(jwks(SigningKey.generate())), 2
    with pytest.raises(UnknownKey):
        verify.verify(token, NOW)


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_an_issued_token_is_believed(algorithm: Any) -> None:
    key = SigningKey.generate(algorithm)
    issuer = TokenIssuer(key, issuer="https://users", audience="shop", lifetime=60)
    token = issuer.issue("ann", NOW, scopes=["b", "a"], extra={"tenant": "x", "sub": "eve"})
    claims = verifier(keys_from_jwks(jwks(key))).verify(token, NOW + 59)
    assert (claims.subject, claims.scopes, claims.extra) == ("ann", ("a", "b"), {"tenant": "x"})
    assert claims.expires_at == NOW + 60
    assert claims.token_id
    with pytest.raises(Expired):
        verifier(keys_from_jwks(jwks(key))).verify(token, NOW + 71)


def test_a_shared_secret() -> None:
    keys = LocalKeys([key_from_secret(SECRET)])
    key = jwk.OctKey.import_key(SECRET)
    token = signed(head={"alg": "HS256", "kid": "any"}, key=key, algorithm="HS256")
    assert verifier(keys).verify(token, NOW).subject == "ann"
