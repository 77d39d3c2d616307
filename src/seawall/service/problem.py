"""Errors as HTTP answers: `application/problem+json` (RFC 9457).

`retryable: true` means that the same request may be sent again: either nothing happened, or it
is idempotent (by its method or its key) and the failure may pass. What a handler did before it
failed is not known here, so a plain POST that got that far is never retryable; nor is an error
whose raiser has already tried as often as it may, since retrying at every layer multiplies the
load at the worst moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec

from seawall.errors import (
    DeadlineExceeded,
    Misconfigured,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SeawallError,
)

MEDIA_TYPE = "application/problem+json"

# What an upstream's refusal becomes here. The caller's request cannot succeed either, which is
# what these say; any other refusal is between us and the upstream.
_PASSED_ON = frozenset({400, 402, 403, 404, 409, 410, 412, 413, 422, 423, 424, 451})

_DEFAULT_RETRY_AFTER = 1.0  # seconds


class CallRefused(Refused):
    """A service answered no (4xx). `problem` is its explanation, where it sent one."""

    def __init__(self, service: str, status: int, problem: Mapping[str, Any]) -> None:
        detail = problem.get("detail") or problem.get("title") or title(status)
        super().__init__(f"{service} answered {status}: {detail}")
        self.service = service
        self.status = status
        self.problem = problem


class CallFailed(OutcomeUnknown):
    """A service answered that it failed (5xx); it may have done its work or a part of it."""

    def __init__(self, service: str, status: int, problem: Mapping[str, Any]) -> None:
        detail = problem.get("detail") or problem.get("title") or title(status)
        super().__init__(f"{service} answered {status}: {detail}")
        self.service = service
        self.status = status
        self.problem = problem


def title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """An error as it is answered."""

    status: int
    detail: str = ""
    retryable: bool = False
    retry_after: float | None = None  # seconds
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self, *, service: str, path: str, trace_id: str | None) -> bytes:
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": title(self.status),
            "status": self.status,
            "detail": self.detail or title(self.status),
            "instance": path,
            "service": service,
            "retryable": self.retryable,
        }
        if trace_id:
            content["trace_id"] = trace_id
        content.update(self.extra)
        return _encode(content)

    def raw_headers(self, length: int) -> list[tuple[bytes, bytes]]:
        found = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in self.headers.items()
        ]
        found.append((b"content-type", MEDIA_TYPE.encode()))
        found.append((b"content-length", str(length).encode()))
        if self.retry_after is not None:
            # Whole seconds are all that RFC 9110 knows; never 0, which reads as "at once".
            found.append((b"retry-after", str(max(1, round(self.retry_after))).encode()))
        return found


def _encode(content: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(content, enc_hook=str)
    except UnicodeEncodeError:  # a lone surrogate, from a header or a path
        safe = {
            key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
            for key, value in content.items()
            if key not in ("errors",)
        }
        return msgspec.json.encode(safe, enc_hook=str)


def of_error(error: SeawallError, *, idempotent: bool = False) -> Problem:
    """What the caller of a handler that raised `error` is told; `idempotent` is its request."""
    if isinstance(error, CallRefused):
        if error.status in _PASSED_ON:
            return Problem(status=error.status, detail=_detail(error))
        return Problem(status=502, detail=str(error))
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None:
        return unexpected()
    if isinstance(error, Misconfigured):
        return Problem(status=status, detail="The service is misconfigured; its log says how.")
    pause = (error.retry_after or _DEFAULT_RETRY_AFTER) if isinstance(error, NotSent) else None
    passing = isinstance(error, NotSent) or status == 502
    return Problem(
        status=status,
        detail=str(error),
        retry_after=pause,
        retryable=idempotent and passing and not error.spent,
    )


# The first that fits.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (RateLimited, 429),
    (NotSent, 503),
    (DeadlineExceeded, 504),
    (OutcomeUnknown, 502),
    (Misconfigured, 500),
    (Refused, 409),
)


def _detail(error: CallRefused) -> str:
    return str(error.problem.get("detail") or error)


def unexpected() -> Problem:
    """An error nobody foresaw. What it was stays in the log, found by the trace id."""
    return Problem(status=500, detail="Something unexpected went wrong; the log has the trace id.")


def of_validation(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """A request that does not fit. Says where and why, and never repeats the input: it may be a
    secret, and may not be encodable."""
    listed = [
        {
            "loc": [part if isinstance(part, int) else _plain(part) for part in error["loc"]],
            "msg": _plain(error["msg"]),
            "type": error["type"],
        }
        for error in errors[:50]  # more help nobody
    ]
    first = listed[0] if listed else {"loc": [], "msg": "it does not fit"}
    where = ".".join(str(part) for part in first["loc"])
    return Problem(
        status=400 if listed and listed[0]["type"] == "json_invalid" else 422,
        detail=f"{where}: {first['msg']}" if where else str(first["msg"]),
        extra={"errors": listed},
    )


def _plain(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()[:500]
