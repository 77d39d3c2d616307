"""Rows 46 to 50 of the table of bad inputs: tokens that must not pass, at the gateway's door.

Which tokens the verifier refuses is in tests/unit/identity; here is what the client hears, and
that neither the request nor a second credential reaches the service.
"""

import hashlib
import hmac
import json
from typing import Any

import pytest

from seawall.gateway.auth import Provider
from seawall.gateway.config import Route
from seawall.identity.api_keys import ApiKey, ApiKeys
from seawall.identity.claims import BadSignature, Claims
from seawall.identity.signing import SigningKey
from tests.support.wires import Pair
from tests.unit.identity.test_tokens import GOOD, NOW, SIGNER, b64, signed, verifier

MINE = SigningKey.generate("ES256")
KID = {"alg": "ES256", "kid": SIGNER.kid}
PROVIDERS = {
    "users": Provider(verifier()),
    "machines": Provider(
        ApiKeys([ApiKey(sha256=hashlib.sha256(b"secret").hexdigest(), subject="robot")]),
        header="X-Api-Key",
    ),
}


def row(number: int, what: str, *values: Any) -> Any:
    return pytest.param(*values, id=f"row-{number:02d}-{what}")


def unsigned(head: Any) -> str:
    return f"{b64(json.dumps(head).encode())}.{b64(json.dumps(dict(GOOD)).encode())}."


def as_shared_secret() -> str:
    """Signed with the public key, as if it were a secret that both sides know."""
    public = SIGNER.key.as_pem(private=False)
    text = unsigned({"alg": "HS256", "kid": SIGNER.kid})[:-1]
    return f"{text}.{b64(hmac.digest(public, text.encode(), 'sha256'))}"


BAD_TOKENS = [
    row(46, "none", unsigned({"alg": "none"})),
    row(46, "none-in-other-letters", unsigned({"alg": "nOnE", "kid": SIGNER.kid})),
    row(46, "public-key-as-secret", as_shared_secret()),
    row(46, "own-jwk", signed(head={**KID, "jwk": MINE.public()}, key=MINE.key)),
    row(46, "own-jku", signed(head={**KID, "jku": "https://evil/jwks"}, key=MINE.key)),
    row(46, "own-x5u", signed(head={**KID, "x5u": "https://evil/x"}, key=MINE.key)),
    row(47, "path", signed(head={**KID, "kid": "../../dev/null"})),
    row(47, "sql", signed(head={**KID, "kid": "' OR 1=1 --"})),
    row(47, "huge", signed(head={**KID, "kid": "k" * 3000})),
    row(47, "unknown", signed(head={**KID, "kid": MINE.kid}, key=MINE.key)),
    row(48, "expired", signed({**GOOD, "exp": NOW - 61})),
    row(48, "exp-as-text", signed({**GOOD, "exp": str(NOW + 60)})),
    row(48, "exp-negative", signed({**GOOD, "exp": -1})),
    row(48, "not-yet", signed({**GOOD, "nbf": NOW + 61})),
    row(48, "from-the-future", signed({**GOOD, "iat": NOW + 61})),
    row(49, "audience", signed({**GOOD, "aud": "other"})),
    row(49, "no-audience", signed({k: v for k, v in GOOD.items() if k != "aud"})),
    row(49, "issuer", signed({**GOOD, "iss": "https://evil"})),
    row(49, "zero-signature", signed().rpartition(".")[0] + "." + b64(bytes(64))),
    row(49, "unknown-crit", signed(head={**KID, "crit": ["x"], "x": 1})),
    row(49, "huge", "a" * 12_000),
    row(49, "duplicate-keys", signed(b'{"sub":"ann","sub":"root"}')),
    row(49, "padding", signed() + "="),
    row(49, "rubbish", "a.b.c"),
    row(49, "subject-with-line-end", signed({**GOOD, "sub": "a\r\nx-identity-scopes: admin"})),
]


def asked(*fields: str, path: str = "/") -> tuple[Pair, list[bytes]]:
    routes = (
        Route(service="shop", auth="users"),
        Route(service="shop", path="/machines", auth="machines"),
    )
    pair = Pair(routes=routes, providers=PROVIDERS)
    lines = [f"GET {path} HTTP/1.1", "host: a", *fields, "", ""]
    return pair, pair.feed("\r\n".join(lines).encode("latin-1"))


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_a_bad_token_is_401(token: str) -> None:
    pair, sent = asked(f"authorization: Bearer {token}")
    assert pair.statuses == [401]
    assert b'\r\nwww-authenticate: Bearer error="invalid_token"\r\n' in pair.client.data
    assert sent == []
    assert pair.is_at_rest()


GOOD_TOKEN = f"authorization: Bearer {signed()}"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        row(50, "two-fields", (GOOD_TOKEN, GOOD_TOKEN), "/"),
        row(50, "in-the-query", (GOOD_TOKEN,), "/?access_token=x"),
        row(50, "in-the-query-encoded", (GOOD_TOKEN,), "/?a=b&acc%65ss_token=x"),
        row(50, "two-keys", ("x-api-key: secret", "x-api-key: secret"), "/machines"),
        row(50, "twin", ("x-api-key: secret", "X_Api_Key: root"), "/machines"),
        row(50, "half-a-twin", ("x-api-key: secret", "x-api_key: root"), "/machines"),
    ],
)
def test_a_credential_in_two_places_is_400(fields: tuple[str, ...], path: str) -> None:
    pair, sent = asked(*fields, path=path)
    assert pair.statuses == [400]
    assert sent == []


def test_row_50_a_token_is_not_sent_on() -> None:
    pair, (sent,) = asked(GOOD_TOKEN)
    assert pair.statuses == [200]
    assert b"uthorization" not in sent
    assert b"\r\nx-identity-subject: ann\r\n" in sent
    pair, (sent,) = asked("x-api-key: secret", path="/machines")
    assert b"secret" not in sent


class Moody:
    """A verifier that knows one caller, and may change its mind."""

    def __init__(self) -> None:
        self.claims: Claims | None = Claims("ann", "https://users", ("read",))

    def verify(self, presented: str, now: float) -> Claims:
        if self.claims is None or presented != "token":
            raise BadSignature
        return self.claims


def test_who_was_known_is_asked_about_again_each_time() -> None:
    verifier, scope = Moody(), ("write",)
    routes = (
        Route(service="shop", auth="users"),
        Route(service="shop", path="/w", auth="users", scopes=scope),
    )
    pair = Pair(routes=routes, providers={"users": Provider(verifier)})

    def ask(path: str = "/", *more: str) -> list[bytes]:
        fields = ["host: a", "Authorization: Bearer token", *more]
        return pair.feed("\r\n".join([f"GET {path} HTTP/1.1", *fields, "", ""]).encode())

    for _ in range(2):
        assert b"\r\nx-identity-subject: ann\r\n" in ask()[0]
    assert b"uthorization" not in ask("/", "x-copy: Bearer token")[0]
    assert ask("/w") == ask("/?access_token=x") == []
    verifier.claims = Claims("bob", "https://users", scope)
    assert b"\r\nx-identity-subject: bob\r\n" in ask("/w")[0]
    verifier.claims = None
    assert ask() == []
    assert pair.statuses == [200, 200, 200, 403, 400, 200, 401]
