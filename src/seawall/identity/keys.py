"""Keys that signatures are checked with: one algorithm each, fixed when the key is read.

What a token says about keys and algorithms is only compared with what is known here, so a token
can neither bring its own key nor turn a public key into a shared secret (RFC 8725, 3.1 and 3.2).
"""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from joserfc import jwk
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jws import JWSRegistry

from seawall.errors import Misconfigured
from seawall.identity.claims import UnknownKey, WrongAlgorithm

# Algorithms that tokens may be signed with, by the type of their key. RFC 9864 gives EdDSA over
# Ed25519 the name Ed25519; here both are the first.
ALGORITHMS: Mapping[str, frozenset[str]] = {
    "oct": frozenset({"HS256", "HS384", "HS512"}),
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC": frozenset({"ES256", "ES384", "ES512"}),
    "OKP": frozenset({"EdDSA"}),
}
_BY_CURVE = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}

MIN_RSA_BITS = 2048  # NIST SP 800-131A: fewer are broken within reach
MAX_KEYS = 100  # of one issuer; in practice two or three


def canonical(algorithm: str) -> str:
    return "EdDSA" if algorithm == "Ed25519" else algorithm


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """One key and the one algorithm it is used with. `kid` is None where it was given no name."""

    kid: str | None
    algorithm: str
    key: jwk.Key = field(repr=False)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        model = JWSRegistry.algorithms[self.algorithm]
        try:
            return model.verify(message, signature, self.key)
        except (JoseError, ValueError, TypeError):
            return False


class Keys(Protocol):
    """The trusted keys of one issuer."""

    @property
    def version(self) -> int:
        """Another number whenever the keys are others: what was believed before is void."""

    def find(self, kid: str | None, algorithm: str) -> VerifyKey:
        """The key for a token that names `kid`. Never waits.

        Raises `UnknownKey` or `WrongAlgorithm`, and `KeysUnavailable` where no keys were ever
        read.
        """


class LocalKeys:
    """Keys that are at hand and do not change."""

    version = 0

    def __init__(self, keys: Iterable[VerifyKey]) -> None:
        given = tuple(keys)
        self._nameless = tuple(key for key in given if key.kid is None)
        # Of two keys with one name the first counts.
        self._named = {key.kid: key for key in reversed(given) if key.kid is not None}
        self._all = (*self._named.values(), *self._nameless)
        if not self._all:
            raise Misconfigured("there is no key that could check a signature")

    def find(self, kid: str | None, algorithm: str) -> VerifyKey:
        key = self._candidate(kid, algorithm)
        if key.algorithm != algorithm:
            raise WrongAlgorithm
        return key

    def _candidate(self, kid: str | None, algorithm: str) -> VerifyKey:
        if kid is not None and kid in self._named:
            return self._named[kid]
        if len(self._all) == 1:
            # A key without a name, alone, serves tokens of any name.
            fit = self._nameless if kid is not None else self._all
        else:
            fit = tuple(k for k in self._all if kid is None and k.algorithm == algorithm)
        if len(fit) != 1:
            raise UnknownKey
        return fit[0]

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"<LocalKeys {[key.kid for key in self._all]}>"


def key_from_jwk(member: Mapping[str, Any]) -> VerifyKey:
    """Read one JSON Web Key. Raises `Misconfigured` for what cannot check a signature safely."""
    with _imported("JSON Web Key"):
        key = jwk.import_key(dict(member))
    if member.get("use", "sig") != "sig":
        raise Misconfigured("this key is not for signatures")
    kid = member.get("kid")
    return _fixed(key, kid if isinstance(kid, str) else None, member.get("alg"))


def key_from_pem(pem: bytes, *, algorithm: str | None = None, kid: str | None = None) -> VerifyKey:
    """Read a public or private key in PEM. Without `algorithm` it follows from the key."""
    for kind in (jwk.ECKey, jwk.OKPKey, jwk.RSAKey):
        try:
            key: jwk.Key = kind.import_key(pem)
        except (JoseError, ValueError, TypeError):
            continue
        return _fixed(key, kid, algorithm)
    raise Misconfigured("this is no key in PEM", fix="-----BEGIN PUBLIC KEY----- …")


def key_from_secret(
    secret: str | bytes, *, algorithm: str = "HS256", kid: str | None = None
) -> VerifyKey:
    """A secret shared with the issuer; at least as long as the hash (RFC 7518, 3.2)."""
    raw = secret.encode() if isinstance(secret, str) else secret
    with _imported("shared secret"):
        key = jwk.OctKey.import_key(raw)
    return _fixed(key, kid, algorithm)


@contextmanager
def _imported(kind: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # It warns of weak keys, which `_strong` refuses.
            warnings.simplefilter("ignore", SecurityWarning)
            yield
    except (JoseError, ValueError, TypeError, KeyError) as exc:
        raise Misconfigured(f"this is no {kind}: {exc}") from exc


def _fixed(key: jwk.Key, kid: str | None, declared: object) -> VerifyKey:
    """Tie a key to its algorithm, or refuse it."""
    if declared is not None and not isinstance(declared, str):
        raise Misconfigured(f"alg is a word, not {declared!r}")
    algorithm = canonical(declared) if declared else _natural(key)
    if algorithm not in ALGORITHMS[key.key_type]:
        raise Misconfigured(
            f"{algorithm} is not for keys of type {key.key_type}",
            fix=", ".join(sorted(ALGORITHMS[key.key_type])),
        )
    _strong(key, algorithm)
    return VerifyKey(kid, algorithm, key)


def _natural(key: jwk.Key) -> str:
    if isinstance(key, jwk.RSAKey):
        return "RS256"
    if isinstance(key, jwk.OctKey):
        return "HS256"
    return _BY_CURVE.get(key.curve_name, key.curve_name)


def _strong(key: jwk.Key, algorithm: str) -> None:
    if isinstance(key, jwk.RSAKey):
        if key.raw_value.key_size < MIN_RSA_BITS:
            raise Misconfigured(f"an RSA key has at least {MIN_RSA_BITS} bits")
    elif isinstance(key, jwk.OctKey):
        if len(key.raw_value) * 8 < int(algorithm[2:]):
            raise Misconfigured(
                f"the secret for {algorithm} has at least {int(algorithm[2:]) // 8} bytes",
                fix="openssl rand -base64 48",
            )
    elif _BY_CURVE.get(key.curve_name) != algorithm:
        raise Misconfigured(f"{algorithm} is not for the curve {key.curve_name}")


def keys_from_jwks(document: object, *, public_only: bool = False) -> LocalKeys:
    """Read a JSON Web Key Set, or a single key.

    Keys for other uses or of unknown kinds are left out, as RFC 7517 says; `public_only` leaves
    out shared secrets too, which have no place in a published document. Raises `Misconfigured`
    if nothing is left.
    """
    if not isinstance(document, Mapping):
        raise Misconfigured("a JSON Web Key Set is an object with a list of keys")
    members = document.get("keys", [document])
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise Misconfigured(f"a JSON Web Key Set has a list of at most {MAX_KEYS} keys")
    keys, refused = [], ""
    for member in members:
        try:
            if not isinstance(member, Mapping):
                raise Misconfigured("a JSON Web Key is an object")
            if public_only and member.get("kty") == "oct":
                raise Misconfigured("a shared secret has no place in a published key set")
            keys.append(key_from_jwk(member))
        except Misconfigured as error:
            refused = error.reason
    if not keys:
        raise Misconfigured(f"there is no usable key in the key set ({refused or 'it is empty'})")
    return LocalKeys(keys)


def keys_from_bytes(content: bytes, *, public_only: bool = False) -> LocalKeys:
    """Read a JSON Web Key Set, a single JSON Web Key, or a key in PEM."""
    if content.lstrip().startswith(b"-----BEGIN"):
        return LocalKeys([key_from_pem(content)])
    try:
        document = json.loads(content.decode())
    except (ValueError, RecursionError) as exc:
        raise Misconfigured(f"this is neither a JSON Web Key Set nor PEM: {exc}") from exc
    return keys_from_jwks(document, public_only=public_only)


def keys_from_file(path: Path | str) -> LocalKeys:
    """Read keys from a file. It blocks: call it while starting, or in a thread."""
    try:
        return keys_from_bytes(Path(path).read_bytes())
    except OSError as exc:
        raise Misconfigured(f"{path} cannot be read: {exc.strerror}") from exc
    except Misconfigured as error:
        raise Misconfigured(f"{path}: {error.reason}", fix=error.fix) from error
