"""Names of header fields that a proxy must understand, and what each is to it.

Names are `bytes`, lower case. Three groups (RFC 9110, sections 7.6.1 and 17):

- *framing*: where the message ends and what this connection does next; read, never passed on as
  received, written anew;
- *hop-by-hop*: about this connection only, never passed on;
- *boundary*: what a client may not say about itself (who it is, from where, in which trace).
  A message scanner takes them out of the head and reports them; the boundary decides.
"""

import re
from functools import lru_cache
from typing import Final

PLAIN: Final = 0
HOST: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 3
CONNECTION: Final = 4
HOP: Final = 5
UPGRADE: Final = 6
EXPECT: Final = 7
RANGE: Final = 8
TE: Final = 9
# From here on: boundary fields.
BOUNDARY: Final = 10
FORWARDED_FOR: Final = 10
FORWARDED_PROTO: Final = 11
FORWARDED_HOST: Final = 12
REQUEST_ID: Final = 13
TRACEPARENT: Final = 14
TRACESTATE: Final = 15
BAGGAGE: Final = 16
DEADLINE: Final = 17
VIA: Final = 18
MAX_FORWARDS: Final = 19
FORBIDDEN: Final = 20  # never believed from outside, whoever sends it
UNBELIEVED: Final = 21  # as those, but a route may set it itself
SERVED_BY: Final = 22  # in responses
IMPORTANCE: Final = 23
FORWARDED: Final = 24  # as those that are not believed, but where trusted proxies write it
CREDENTIAL: Final = 25  # plain, and reported so that nobody has to look for it

INVALID: Final = -1

AUTHORIZATION: Final = b"authorization"

_HOP_BY_HOP: Final = {
    b"keep-alive": HOP,
    b"proxy-connection": HOP,
    b"proxy-authenticate": HOP,
    b"proxy-authorization": HOP,
    b"te": TE,
    b"trailer": HOP,
    b"http2-settings": HOP,
}
_FRAMING: Final = {
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
}
_REQUEST: Final = {
    **_HOP_BY_HOP,
    **_FRAMING,
    b"host": HOST,
    b"expect": EXPECT,
    b"range": RANGE,
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-proto": FORWARDED_PROTO,
    b"x-forwarded-host": FORWARDED_HOST,
    b"x-request-id": REQUEST_ID,
    b"traceparent": TRACEPARENT,
    b"tracestate": TRACESTATE,
    b"baggage": BAGGAGE,
    b"x-deadline-ms": DEADLINE,
    b"via": VIA,
    b"max-forwards": MAX_FORWARDS,
    b"x-importance": IMPORTANCE,
    b"x-arm": FORBIDDEN,
    b"x-mirror": FORBIDDEN,
    b"forwarded": FORWARDED,
    **dict.fromkeys(
        (
            b"x-real-ip "
            # Where a client is, in the words of other proxies and content networks.
            b"client-ip x-client-ip x-cluster-client-ip true-client-ip cf-connecting-ip "
            b"x-originating-ip x-remote-ip x-remote-addr "
            # Who it is, in those of servers that check passwords or certificates.
            b"remote-user x-remote-user x-user x-user-id x-user-name x-user-email x-user-role "
            b"x-user-roles x-user-groups x-user-scopes x-userid x-username x-ssl-client-cert "
            b"x-ssl-client-dn x-ssl-client-verify x-forwarded-user x-forwarded-client-cert "
            # Another path than the one that was matched (IIS, Symfony, Zend).
            b"x-original-url x-original-uri x-rewrite-url"
        ).split(),
        UNBELIEVED,
    ),
}
# Families of such names, those of tomorrow included. Members that stand above are understood.
_FORWARDED: Final = b"x-forwarded-"
_IDENTITY: Final = b"x-identity-"
FAMILIES: Final = (_FORWARDED, _IDENTITY)
_RESPONSE: Final = {
    **_HOP_BY_HOP,
    **_FRAMING,
    b"x-request-id": REQUEST_ID,
    b"x-served-by": SERVED_BY,
}

# What almost every message carries, in the spellings of almost every program: known without
# looking at the letters.
_COMMON: Final = (
    b"accept accept-encoding accept-language accept-ranges access-control-allow-origin age "
    b"authorization cache-control content-encoding content-language content-type cookie date dnt "
    b"etag expires idempotency-key if-modified-since if-none-match last-modified location origin "
    b"pragma range "
    b"referer server sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode "
    b"sec-fetch-site sec-fetch-user set-cookie user-agent vary www-authenticate "
    b"x-content-type-options x-frame-options x-requested-with"
).split()

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")  # RFC 9110, section 5.6.2

# A Connection field may not take these away from the next hop: it would change where the message
# ends, to whom it goes, who is asking, or what may be kept of it. What the gateway itself says is
# written after such fields are taken out, and cannot be named away.
NOT_CONNECTION_OPTIONS: Final = frozenset(
    b"host content-length transfer-encoding authorization cookie cache-control content-type "
    b"content-encoding content-range expect origin range set-cookie vary www-authenticate".split()
)


# What a trailer may not be: it would come too late, behind what it is about, for whoever is to
# heed it. Framing, routing, who is asking, and how the body is to be read (RFC 9110, 6.5.1).
_NO_TRAILERS: Final = frozenset(
    b"age authorization cache-control content-encoding content-length content-location "
    b"content-range content-type cookie date expect expires host if-match if-modified-since "
    b"if-none-match if-range if-unmodified-since location max-forwards pragma range retry-after "
    b"set-cookie vary warning www-authenticate x-api-key".split()
)


def is_token(text: bytes) -> bool:
    return _TOKEN.fullmatch(text) is not None


def _kind(name: bytes, table: dict[bytes, int]) -> int:
    if not is_token(name):
        return INVALID
    lower = name.lower()
    known = table.get(lower)
    if known is not None:
        return known
    # CGI, WSGI and many frameworks fold "-" and "_" into one: X_Identity_Subject would arrive
    # as X-Identity-Subject. Such a twin is dropped, never understood.
    folded = lower.replace(b"_", b"-")
    return FORBIDDEN if folded in table else PLAIN


@lru_cache(maxsize=4096)  # names in use by honest programs; inventing more only costs the inventor
def request_kind(name: bytes) -> int:
    """What a request's field is to a proxy; INVALID if this cannot name a field."""
    kind = _kind(name, _REQUEST)
    if kind == PLAIN:
        lower = name.lower()
        folded = lower.replace(b"_", b"-")
        if folded.startswith(_IDENTITY):
            return FORBIDDEN
        if folded.startswith(_FORWARDED):
            return UNBELIEVED if folded == lower else FORBIDDEN
    return kind


@lru_cache(maxsize=4096)
def reported_kind(name: bytes) -> int:
    """The same for whoever reads a head, who is told of a plain field more."""
    return CREDENTIAL if name.lower() == AUTHORIZATION else request_kind(name)


@lru_cache(maxsize=4096)
def response_kind(name: bytes) -> int:
    """What a response's field is to a proxy; INVALID if this cannot name a field."""
    return _kind(name, _RESPONSE)


def _spelled(table: dict[bytes, int]) -> dict[bytes, int]:
    found = dict.fromkeys(_COMMON, PLAIN)
    found.update(table)
    return found | {name.title(): kind for name, kind in found.items()}


def may_trail(name: bytes) -> bool:
    """Whether a field with this name means the same behind a body as in its head."""
    lower = name.lower()
    if request_kind(name) != PLAIN or response_kind(name) != PLAIN or lower in _NO_TRAILERS:
        return False
    return not lower.startswith(b"access-control-")


REQUEST_KINDS: Final = _spelled(_REQUEST | {AUTHORIZATION: CREDENTIAL})
RESPONSE_KINDS: Final = _spelled(_RESPONSE)


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, lower case, without the empty ones."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]
