"""Answers that the gateway gives itself: problem+json (RFC 9457), with the reason and the id."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Final


class Flag(StrEnum):
    """Why a request ended as it did, in the access log; the letters are Envoy's."""

    NONE = "-"
    NO_ROUTE = "NR"  # no route matches
    FILTERED = "FA"  # a filter of the user's own answered
    FILTER_FAILED = "FE"  # such a filter raised an error
    NO_HEALTHY_UPSTREAM = "UH"  # the service has no instance that may be asked
    UPSTREAM_OVERFLOW = "UO"  # its breaker is open, or too many requests are under way
    UPSTREAM_FAILED = "UF"  # no connection to an instance
    UPSTREAM_CLOSED = "UC"  # an instance closed the connection before its answer was whole
    UPSTREAM_TIMEOUT = "UT"  # no answer within the time
    UPSTREAM_PROTOCOL = "UPE"  # what an instance sent is not HTTP
    RETRIES_EXHAUSTED = "URX"  # tried again, and failed each time
    SHED = "OM"  # the service has enough to do, and others are more important
    RATE_LIMITED = "RL"
    UNAUTHORIZED = "UAEX"  # authentication or authorization said no
    CLIENT_CLOSED = "DC"  # the client went away first
    CLIENT_PROTOCOL = "DPE"  # what the client sent is not HTTP that is safe to pass on
    CLIENT_TIMEOUT = "DT"  # the client sent or took too slowly
    TOO_LARGE = "PL"  # the body is over the route's limit
    STREAM_IDLE = "SI"  # nothing came in a stream for too long
    TUNNEL_LIMIT = "TL"  # an upgraded connection lasted as long, or carried as much, as it may
    DELAY_INJECTED = "DI"  # held back on purpose, and else well
    FAULT_INJECTED = "FI"  # ended on purpose


# Every request has a flag, and looking a member up on its class costs as much as a call.
NO_FLAG: Final = Flag.NONE

# The status of a request whose client left before it got an answer; nginx' number.
CLIENT_LEFT: Final = 499


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An answer to give instead of asking a service."""

    status: int
    flag: Flag
    detail: str
    retry_after: float | None = None  # seconds
    retryable: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False  # and read nothing more
    body: bytes | None = None  # in place of the problem
    content_type: str = "application/problem+json"


def unavailable(flag: Flag, detail: str, retry_after: float) -> Answer:
    return Answer(status=503, flag=flag, detail=detail, retry_after=retry_after, retryable=True)


def too_large(limit: int) -> Answer:
    detail = f"a body of more than {limit} bytes"
    return Answer(status=413, flag=Flag.TOO_LARGE, detail=detail, close=True)


def too_late(seconds: float, *, retryable: bool) -> Answer:
    detail = f"no answer within {seconds:.3f} s"
    return Answer(status=504, flag=Flag.UPSTREAM_TIMEOUT, detail=detail, retryable=retryable)


def unknown_method() -> Answer:
    """A service that folds methods to capitals would take `post` for POST; routes do not."""
    return Answer(status=501, flag=Flag.CLIENT_PROTOCOL, detail="no route names this method")


def bad_request(status: int, reason: str) -> Answer:
    """To a client whose bytes cannot be followed any further."""
    flag = Flag.CLIENT_TIMEOUT if status == 408 else Flag.CLIENT_PROTOCOL
    offer = {"upgrade": "websocket", "sec-websocket-version": "13"} if status == 426 else {}
    return Answer(status=status, flag=flag, detail=reason, headers=offer, close=True)


SERVER: Final = "gateway"
_BODILESS: Final = (204, 304)  # RFC 9110, 8.6: without a length either


def render(
    answer: Answer,
    *,
    service: str,
    request_id: str,
    told: bytes = b"",
    head_only: bool = False,
    close: bool = False,
) -> bytes:
    """The whole answer as bytes; `told` are field lines, each with its end."""
    phrase = HTTPStatus(answer.status).phrase
    body = answer.body
    if body is None:
        body = _problem(answer, phrase, service, request_id)
    lines = [f"HTTP/1.1 {answer.status} {phrase}"]
    if body:
        lines.append(f"content-type: {answer.content_type}")
    if answer.status not in _BODILESS:
        lines.append(f"content-length: {len(body)}")
    lines.append(f"x-request-id: {request_id}")
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    if answer.retry_after is not None:
        lines.append(f"retry-after: {max(1, math.ceil(answer.retry_after))}")
    if close or answer.close:
        lines.append("connection: close")
    head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n" + told + b"\r\n"
    return head if head_only else head + body


def _problem(answer: Answer, phrase: str, service: str, request_id: str) -> bytes:
    return json.dumps(
        {
            "type": "about:blank",
            "title": phrase,
            "status": answer.status,
            "detail": answer.detail,
            "instance": f"urn:request:{request_id}",
            "service": service or SERVER,
            "reason": answer.flag.value,
            "retryable": answer.retryable,
            "trace_id": request_id,
        }
    ).encode()
