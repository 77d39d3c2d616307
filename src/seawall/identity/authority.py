"""A certificate authority for development: made on first use, it issues short-lived certificates.

Its key lies in a file that only its owner may read. On a cluster the mesh, or cert-manager,
issues certificates instead.
"""

import contextlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from seawall.errors import Misconfigured
from seawall.identity.workload import WorkloadId

# Long enough to survive a night's sleep of the laptop, short enough to need no revocation.
LIFETIME = timedelta(hours=12)

_AUTHORITY_LIFETIME = timedelta(days=365)

# Clocks of two machines disagree; a certificate is valid this long before it was issued.
_SKEW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key and the authority to trust, all as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes

    def write(self, directory: Path | str, also: Mapping[str, bytes] | None = None) -> None:
        """Write `tls.crt`, `tls.key` (mode 0600) and `ca.crt` into `directory`, each whole or not
        at all: the names that Kubernetes and cert-manager use. Safe to repeat under readers: who
        meets a new certificate with an old key sees that they do not match, and reads again.
        `also` are more files, by their names, which lie there before the certificate does."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, content in (also or {}).items():
            _replace(directory / name, content)
        _replace(directory / "ca.crt", self.authority)
        _replace(directory / "tls.key", self.key)
        _replace(directory / "tls.crt", self.certificate)


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates. `certificate` is what everybody trusts."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @staticmethod
    def generate(now: datetime) -> "Authority":
        """A new one, valid for a year from `now` (with a time zone)."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Seawall development CA")])
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        made = (
            _builder(name, name, key.public_key(), now, _AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        return Authority(made, key)

    @staticmethod
    def load_or_create(path: Path | str, now: datetime) -> "Authority":
        """The authority in the file at `path`, which is made, for the owner only, if it is not
        there. Processes that start together end up with one. It blocks.

        Raises `Misconfigured` if the file cannot be used, is open to others, or its year is over.
        """
        path = Path(path)
        try:
            if not path.exists():
                _create(path, Authority.generate(now).pem())
            if path.stat().st_mode & 0o077:
                raise Misconfigured(f"{path} can be read by others", fix=f"chmod 600 {path}")
            pem = path.read_bytes()
        except OSError as exc:
            raise Misconfigured(f"{path} cannot hold the authority: {exc.strerror}") from exc
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            key = serialization.load_pem_private_key(pem, None)
        except ValueError as exc:
            fix = f"remove {path}; a new one is made"
            raise Misconfigured(f"{path} holds no certificate authority", fix=fix) from exc
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Misconfigured(f"{path}: the key is not an elliptic curve's")
        if certificate.not_valid_after_utc <= now:
            raise Misconfigured(
                f"{path} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
                fix=f"remove {path} and start again",
            )
        return Authority(certificate, key)

    def issue(
        self, identity: WorkloadId, now: datetime, *, lifetime: timedelta = LIFETIME
    ) -> Issued:
        """A certificate for `identity`, to serve and to call with, and a new key (X509-SVID)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Seawall")])
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
        made = (
            _builder(self.certificate.subject, subject, key.public_key(), now, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(names, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Issued(_pem(made), _key_pem(key), _pem(self.certificate))

    def pem(self) -> bytes:
        """Certificate and private key."""
        return _pem(self.certificate) + _key_pem(self.key)


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + lifetime)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _replace(path: Path, content: bytes) -> None:
    _draft(path, content).replace(path)


def _create(path: Path, content: bytes) -> None:
    """Write a whole file or none; whoever comes second leaves the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path, content)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
