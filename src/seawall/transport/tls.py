"""TLS between processes: how to shake hands, who may be there, and why a handshake failed. Pure."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

Certificate = Mapping[str, Any]
"""A verified certificate, as `SSLObject.getpeercert()` returns it."""


@dataclass(frozen=True, slots=True)
class Secured:
    """TLS to one service.

    Right behind the handshake, and before anything is sent, `check` gets the other side's
    certificate; it raises `Refused` if somebody else is there than was asked for.
    """

    context: ssl.SSLContext
    check: Callable[[Certificate | None], object]


# What OpenSSL calls the reasons (X509_V_ERR_*): a signature that is wrong, and issuers that are
# not the one we trust.
_STRANGERS = frozenset({7, 18, 19, 20, 21})
_NOT_YET_VALID, _EXPIRED = 9, 10

_NOT_TLS = frozenset(
    {
        *("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL"),
        *("PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "BAD_RECORD_TYPE"),
    }
)

_NO_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE"


def reason(error: ssl.SSLError) -> str:
    """Why there is no connection, in a few words of which there are few, so that they can be
    counted: `wrong authority`, `expired`, `not yet valid`, `no certificate`, `not TLS`, `refused
    by the other side`, or `no handshake`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _STRANGERS:
            return "wrong authority"
        named = {_EXPIRED: "expired", _NOT_YET_VALID: "not yet valid"}
        return named.get(error.verify_code, "no handshake")
    name = error.reason or ""
    if name == _NO_CERTIFICATE:
        return "no certificate"
    if name in _NOT_TLS:
        return "not TLS"
    return "refused by the other side" if "_ALERT_" in name else "no handshake"


def explained(error: ssl.SSLError) -> str:
    """The same in a sentence, for people."""
    short = reason(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the other side's certificate: {short} ({error.verify_message})"
    if short == "refused by the other side":
        said = (error.reason or "").partition("_ALERT_")[2].replace("_", " ").lower()
        return f"the other side refused our certificate: {said}"
    return {
        "no certificate": "the other side showed no certificate",
        "not TLS": "the other side does not speak TLS",
    }.get(short, f"no TLS handshake: {error.reason or error}")


def is_refusal(error: BaseException | None) -> TypeGuard[ssl.SSLError]:
    """Whether the other side ended the connection over our certificate.

    With TLS 1.3 a client hears of that behind its own handshake, in place of its first answer;
    what it sent meanwhile was not read by anybody.
    """
    return isinstance(error, ssl.SSLError) and reason(error) == "refused by the other side"
