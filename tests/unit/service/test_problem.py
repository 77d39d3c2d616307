import json

import pytest

from seawall.errors import (
    BreakerOpen,
    DeadlineExceeded,
    Full,
    Misconfigured,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SeawallError,
    Unavailable,
)
from seawall.service.problem import CallFailed, CallRefused, Problem, of_error, of_validation


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        (Full("x"), 503, True),
        (Unavailable("x"), 503, True),
        (BreakerOpen("x"), 503, True),
        (NotSent("x"), 503, True),
        (RateLimited("x"), 429, True),
        (OutcomeUnknown("x"), 502, True),
        (CallFailed("a", 500, {}), 502, True),
        (DeadlineExceeded("x"), 504, False),
        (Refused("x"), 409, False),
        (CallRefused("a", 404, {"detail": "gone"}), 404, False),
        (CallRefused("a", 401, {}), 502, False),
        (Misconfigured("the secret"), 500, False),
        (SeawallError("x"), 500, False),
    ],
)
def test_every_error_has_an_answer(error: SeawallError, status: int, retryable: bool) -> None:
    problem = of_error(error, idempotent=True)
    assert (problem.status, problem.retryable) == (status, retryable)
    assert not of_error(error).retryable  # a handler that ran, and is not idempotent
    error.spent = True
    assert not of_error(error, idempotent=True).retryable
    assert "secret" not in problem.detail


def test_the_pause_is_passed_on_in_whole_seconds() -> None:
    problem = of_error(Unavailable("x", retry_after=0.2))
    assert (b"retry-after", b"1") in problem.raw_headers(0)
    problem = of_error(Unavailable("x", retry_after=7.4))
    assert (b"retry-after", b"7") in problem.raw_headers(0)


def test_the_document() -> None:
    body = Problem(status=404, detail="no such order", extra={"order": 5}).body(
        service="orders", path="/orders/5", trace_id="t"
    )
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "no such order",
        "instance": "/orders/5",
        "service": "orders",
        "retryable": False,
        "trace_id": "t",
        "order": 5,
    }


def test_what_cannot_be_encoded_is_replaced() -> None:
    body = Problem(status=400, detail="\ud800").body(service="a", path="/\udfff", trace_id=None)
    assert json.loads(body)["status"] == 400


def test_validation_never_repeats_the_input() -> None:
    fault = {"loc": ("body", "pass\ud800", 0), "msg": "too short", "type": "x", "input": "hunter2"}
    problem = of_validation([fault] * 100)
    assert problem.status == 422
    body = problem.body(service="a", path="/", trace_id=None)
    assert b"hunter2" not in body
    assert len(json.loads(body)["errors"]) == 50
    assert of_validation([{"loc": ("body",), "msg": "m", "type": "json_invalid"}]).status == 400
