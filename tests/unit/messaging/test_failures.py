"""What a dead letter keeps of an exception."""

import pytest

from seawall.messaging.failures import MAX_ERROR, account, summary, taken_apart


def _raised(error: Exception) -> BaseException:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_a_failure_says_what_it_is_and_where() -> None:
    said, stack = taken_apart(account(_raised(ValueError("no such order"))))
    assert said == "ValueError: no such order"
    (frame,) = stack.splitlines()
    assert "test_failures.py" in frame
    assert frame.endswith(", in _raised")


def test_a_failure_that_was_never_raised_has_no_stack() -> None:
    assert account(ValueError("no")).startswith("ValueError: no")
    assert taken_apart(account(ValueError("no"))) == ("ValueError: no", "")


def test_causes_are_told_too() -> None:
    def lost() -> None:
        try:
            raise ConnectionError("reset")
        except ConnectionError as cause:
            raise RuntimeError("not charged") from cause

    with pytest.raises(RuntimeError) as caught:
        lost()
    said, stack = taken_apart(account(caught.value))
    assert said == "RuntimeError: not charged"
    assert "caused by ConnectionError: reset" in stack


def test_a_suppressed_context_is_not_told() -> None:
    def refused() -> None:
        try:
            raise KeyError("secret")
        except KeyError:
            raise RuntimeError("no") from None

    with pytest.raises(RuntimeError) as caught:
        refused()
    assert "secret" not in account(caught.value)


def test_a_deep_stack_keeps_its_innermost_calls() -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        raise ValueError("bottom")

    with pytest.raises(ValueError, match="bottom") as caught:
        deep(100)
    stack = taken_apart(account(caught.value))[1].splitlines()
    assert stack[0] == "  … 90 outer calls"
    assert len(stack) == 13


def test_whatever_it_says_it_is_bounded() -> None:
    error = _raised(ValueError("x" * 100_000))
    assert len(summary(error)) == 1_000
    assert len(account(error)) <= MAX_ERROR


def test_an_error_without_a_stack_is_all_said() -> None:
    assert taken_apart("the body is not JSON") == ("the body is not JSON", "")
