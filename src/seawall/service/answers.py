"""Every error of a service as problem+json."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from seawall.errors import Misconfigured, SeawallError
from seawall.service import context
from seawall.service.problem import Problem, of_error, of_validation, unexpected
from seawall.telemetry import tracing
from seawall.transport.http1 import IDEMPOTENT

log = logging.getLogger("seawall.service")

# Statuses whose answers have no body (RFC 9110).
_BODILESS = frozenset({204, 205, 304})


def install(app: FastAPI) -> None:
    """Have `app` answer its errors with problems."""

    def respond(request: Request, problem: Problem) -> Response:
        trace = tracing.current()
        trace_id = trace.trace_id if trace is not None else None
        body = problem.body(service=app.title, path=request.url.path, trace_id=trace_id)
        response = Response(status_code=problem.status)
        if problem.status in _BODILESS or problem.status < 200:
            return response
        response.body = body
        response.raw_headers = problem.raw_headers(len(body))
        return response

    async def on_http(request: Request, error: Any) -> Response:
        assert isinstance(error, HTTPException)
        return respond(request, _of_http(error))

    async def on_validation(request: Request, error: Any) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(request, of_validation(error.errors()))

    async def on_seawall(request: Request, error: Any) -> Response:
        assert isinstance(error, SeawallError)
        if isinstance(error, Misconfigured):
            log.error("%s", error)
        keyed = context.IDEMPOTENCY_KEY in request.headers
        return respond(request, of_error(error, idempotent=keyed or request.method in IDEMPOTENT))

    async def on_unexpected(request: Request, error: Any) -> Response:
        return respond(request, unexpected())  # the edge logs it

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(SeawallError, on_seawall)
    app.add_exception_handler(Exception, on_unexpected)


def _of_http(error: HTTPException) -> Problem:
    headers = dict(error.headers or {})
    detail = error.detail
    if isinstance(detail, str):
        return Problem(status=error.status_code, detail=detail, headers=headers)
    extra = detail if isinstance(detail, dict) else {"errors": detail}
    text = str(extra.get("detail", "")) if isinstance(extra, dict) else ""
    return Problem(status=error.status_code, detail=text, headers=headers, extra=extra)
