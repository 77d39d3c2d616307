"""Keys that tokens are signed with: made once, kept in a file, published as a key set."""

import contextlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from joserfc import jwk
from joserfc.jws import JWSRegistry

from seawall.errors import Misconfigured
from seawall.identity.keys import VerifyKey, key_from_jwk

Algorithm = Literal["ES256", "EdDSA"]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, its name (the thumbprint of RFC 7638) and its one algorithm."""

    kid: str
    algorithm: str
    key: jwk.Key = field(repr=False)

    @staticmethod
    def generate(algorithm: Algorithm = "ES256") -> "SigningKey":
        made: jwk.Key
        if algorithm == "ES256":
            made = jwk.ECKey.generate_key("P-256", private=True)
        else:
            made = jwk.OKPKey.generate_key("Ed25519", private=True)
        return SigningKey(made.thumbprint(), algorithm, made)

    @staticmethod
    def from_jwk(member: dict[str, Any]) -> "SigningKey":
        """Raises `Misconfigured` unless it is a private key."""
        found = key_from_jwk(member)
        if isinstance(found.key, jwk.OctKey) or not found.key.is_private:
            raise Misconfigured("this is not a private key, so it cannot sign")
        return SigningKey(found.kid or found.key.thumbprint(), found.algorithm, found.key)

    @staticmethod
    def load_or_create(path: Path | str, algorithm: Algorithm = "ES256") -> "SigningKey":
        """The key in the file at `path`, which is made, for the owner only, if it is not there.

        Replicas that start together end up with one key. It blocks: call it while starting, or
        in a thread. Raises `Misconfigured` if the file cannot be used.
        """
        path = Path(path)
        try:
            if not path.exists():
                _create(path, SigningKey.generate(algorithm))
            return SigningKey.from_jwk(json.loads(path.read_text()))
        except OSError as exc:
            raise Misconfigured(f"{path} cannot hold the signing key: {exc.strerror}") from exc
        except ValueError as exc:
            raise Misconfigured(f"{path} holds no signing key: {exc}") from exc

    def sign(self, message: bytes) -> bytes:
        return JWSRegistry.algorithms[self.algorithm].sign(message, self.key)

    def public(self) -> dict[str, Any]:
        """The public half, as a JSON Web Key."""
        return dict(self.key.as_dict(private=False), kid=self.kid, alg=self.algorithm, use="sig")

    def verify_key(self) -> VerifyKey:
        return key_from_jwk(self.public())


def jwks(*keys: SigningKey) -> dict[str, Any]:
    """The document to publish at `/.well-known/jwks.json`: public halves only."""
    return {"keys": [key.public() for key in keys]}


def _create(path: Path, key: SigningKey) -> None:
    """Write a whole file or none; whoever comes second leaves the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    member = dict(key.key.as_dict(private=True), kid=key.kid, alg=key.algorithm, use="sig")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(member, file)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
