"""JSON Web Tokens: checked strictly, believed until they expire, and issued.

The order of the checks is: size, form, header, key, signature, and only then what the token
says. A bad token costs one signature check at most and ends in a `NotAuthentic`; no input leads
to any other error (RFC 8725 and RFC 7515 to 7519).
"""

import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from seawall.errors import Misconfigured
from seawall.identity.claims import (
    BadSignature,
    Expired,
    Malformed,
    NotYetValid,
    TokenTooLarge,
    WrongAlgorithm,
    WrongAudience,
    WrongIssuer,
)
from seawall.identity.claims import Claims as Claims
from seawall.identity.keys import ALGORITHMS, Keys, canonical
from seawall.identity.signing import SigningKey

# Longer tokens do not fit beside other headers in the 8 to 16 KiB that servers take.
MAX_TOKEN = 8 * 1024  # characters

# Tokens believed at once; the one used longest ago goes first. Usual tokens have 0.5 to 1 KiB,
# so about 4 MB, and 32 MB with the largest.
MAX_BELIEVED = 4096

MAX_SUBJECT = 256  # characters: it becomes a header and a metric of no service
MAX_SCOPES = 100

_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_KNOWN = frozenset({"sub", "iss", "aud", "exp", "nbf", "iat", "jti", "scope", "scp", "scopes"})
ALL_ALGORITHMS = frozenset().union(*ALGORITHMS.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRules:
    """What a token must say. `issuer` or `audience` None means that any will do."""

    issuer: str | None = None
    audience: str | None = None
    algorithms: frozenset[str] = ALL_ALGORITHMS
    plan_claim: str | None = None  # the claim that names the caller's plan
    leeway: float = 30.0  # seconds that clocks of issuer and checker may differ; at most 60

    def __post_init__(self) -> None:
        if not 0 <= self.leeway <= 60:
            raise Misconfigured(f"leeway is from 0 to 60 seconds, not {self.leeway}")
        if unknown := {canonical(name) for name in self.algorithms} - ALL_ALGORITHMS:
            raise Misconfigured(
                f"{', '.join(sorted(unknown))} cannot sign a token",
                fix=f"one of {', '.join(sorted(ALL_ALGORITHMS))}",
            )


class TokenVerifier:
    """Believes tokens signed by one issuer's keys. For one event loop.

    A token that was believed is not checked again until it expires or the keys change.
    """

    def __init__(
        self, keys: Keys, rules: TokenRules | None = None, *, believe: int = MAX_BELIEVED
    ) -> None:
        self._keys = keys
        self._rules = rules or TokenRules()
        self._allowed = frozenset(canonical(name) for name in self._rules.algorithms)
        self._believed: OrderedDict[str, tuple[Claims, float]] = OrderedDict()
        self._believe = believe
        self._version = keys.version

    def verify(self, token: str, now: float) -> Claims:
        """What `token` says, at the wall-clock time `now` (seconds since 1970). Never waits.

        Raises a `NotAuthentic` for every token that is not believed. Where the issuer's keys
        could never be read it raises `KeysUnavailable`: that is no verdict on the token.
        """
        if self._version != self._keys.version:
            self._version = self._keys.version
            self._believed.clear()
        found = self._believed.get(token)
        if found is not None:
            if now < found[1]:
                self._believed.move_to_end(token)
                return found[0]
            del self._believed[token]
            raise Expired
        claims = self._checked(token, now)
        self._believed[token] = (claims, claims.expires_at + self._rules.leeway)
        if len(self._believed) > self._believe:
            self._believed.popitem(last=False)
        return claims

    def _checked(self, token: str, now: float) -> Claims:
        if len(token) > MAX_TOKEN:
            raise TokenTooLarge(f"more than {MAX_TOKEN} characters")
        if not token.isascii() or token.count(".") != 2:
            raise Malformed("not three parts")
        head, body, tail = token.split(".")
        kid, algorithm = self._header(_document(head))
        key = self._keys.find(kid, algorithm)
        if not key.verifies(f"{head}.{body}".encode(), _decoded(tail)):
            raise BadSignature
        return _claims(_document(body), self._rules, now)

    def _header(self, header: dict[str, Any]) -> tuple[str | None, str]:
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "jwt")
        if not isinstance(algorithm, str) or canonical(algorithm) not in self._allowed:
            raise WrongAlgorithm
        # There is no extension that we know, and an unknown one must not be passed over. Keys
        # that a token brings (jwk, jku, x5u, x5c) are never looked at.
        if "crit" in header or "b64" in header:
            raise Malformed("an extension that is not known here")
        if not isinstance(kid, str | None):
            raise Malformed("kid is no text")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise Malformed("another type of token")
        return kid, canonical(algorithm)

    def __repr__(self) -> str:
        return f"<TokenVerifier {self._keys!r} {len(self._believed)} believed>"


class TokenIssuer:
    """Signs tokens for those who proved who they are."""

    def __init__(
        self, key: SigningKey, *, issuer: str, audience: str, lifetime: float = 900.0
    ) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self._lifetime = lifetime  # seconds; a stolen token is good for as long
        self._head = _encoded({"alg": key.algorithm, "typ": "JWT", "kid": key.kid})

    def issue(
        self,
        subject: str,
        now: float,
        *,
        scopes: Iterable[str] = (),
        extra: Mapping[str, object] | None = None,
    ) -> str:
        """A token for `subject`, from the wall-clock time `now` on."""
        body = {
            **(extra or {}),
            "iss": self._issuer,
            "sub": subject,
            "aud": self._audience,
            "iat": int(now),
            "exp": int(now + self._lifetime),
            "jti": secrets.token_urlsafe(12),
            "scope": " ".join(sorted(scopes)),
        }
        signed = f"{self._head}.{_encoded(body)}"
        return f"{signed}.{_text(self._key.sign(signed.encode()))}"


def _claims(said: dict[str, Any], rules: TokenRules, now: float) -> Claims:
    """Check what a token says, now that we know who says it."""
    expires_at = _time(said, "exp")
    if expires_at is None:
        raise Malformed("no exp")
    if now >= expires_at + rules.leeway:
        raise Expired
    issued_at = _time(said, "iat")
    for begin in (_time(said, "nbf"), issued_at):
        if begin is not None and now < begin - rules.leeway:
            raise NotYetValid
    issuer = said.get("iss", "")
    if not isinstance(issuer, str) or (rules.issuer is not None and issuer != rules.issuer):
        raise WrongIssuer
    token_id = said.get("jti")
    plan = said.get(rules.plan_claim) if rules.plan_claim else None
    return Claims(
        subject=_subject(said),
        issuer=issuer,
        scopes=_scopes(said),
        audience=_audience(said, rules.audience),
        expires_at=expires_at,
        issued_at=issued_at,
        token_id=token_id if isinstance(token_id, str) else None,
        plan=plan if isinstance(plan, str) else "",
        extra={name: value for name, value in said.items() if name not in _KNOWN},
    )


def _time(said: dict[str, Any], name: str) -> float | None:
    """A NumericDate: a finite number of seconds, not negative."""
    if name not in said:
        return None
    value = said[name]
    # Beyond the year 9999 it is no date. A bool is an int to Python, but no time.
    if type(value) not in (int, float) or not 0 <= value < 253_402_300_800:
        raise Malformed(f"{name} is no time")
    return float(value)


def _subject(said: dict[str, Any]) -> str:
    subject = said.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
        raise Malformed(f"sub is no text of 1 to {MAX_SUBJECT} characters")
    if not subject.isprintable():  # it becomes a header
        raise Malformed("sub has characters that cannot be printed")
    return subject


def _audience(said: dict[str, Any], wanted: str | None) -> tuple[str, ...]:
    audience = said.get("aud", [])
    several = [audience] if isinstance(audience, str) else audience
    if not isinstance(several, list) or not all(isinstance(one, str) for one in several):
        raise WrongAudience
    if wanted is not None and wanted not in several:
        raise WrongAudience
    return tuple(several)


def _scopes(said: dict[str, Any]) -> tuple[str, ...]:
    """`scope` as one text (RFC 8693), or `scp` or `scopes` as text or list, as others do."""
    value: Any = next((said[name] for name in ("scope", "scp", "scopes") if name in said), [])
    several = value.split(" ") if isinstance(value, str) else value
    if not isinstance(several, list) or len(several) > MAX_SCOPES:
        raise Malformed("scope is no list of words")
    if not all(isinstance(word, str) and _is_scope(word) for word in several):
        raise Malformed("scope is no list of words")
    return tuple(sorted(set(several) - {""}))


def _is_scope(word: str) -> bool:
    """RFC 6749, 3.3: printable ASCII without space, quote and backslash."""
    return word.isascii() and word.isprintable() and not set(word) & set(' "\\')


def _document(part: str) -> dict[str, Any]:
    """The JSON object in a part of a token."""
    try:
        found = json.loads(
            _decoded(part).decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise Malformed("not JSON") from None
    if not isinstance(found, dict):
        raise Malformed("not a JSON object")
    return found


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two parsers may each see another of the two values (RFC 8725, 2.4).
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _decoded(part: str) -> bytes:
    """Base64url without padding, in the one way it can be written."""
    try:
        raw = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise Malformed("not base64url") from None
    if _text(raw) != part:
        raise Malformed("not canonical base64url")
    return raw


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _encoded(document: Mapping[str, object]) -> str:
    return _text(json.dumps(document, separators=(",", ":"), allow_nan=False).encode())
