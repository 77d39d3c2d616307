"""An answer to a call, and which error it stands for (pure)."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar, overload

import msgspec
from pydantic import TypeAdapter, ValidationError

from seawall.errors import (
    DeadlineExceeded,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SeawallError,
    Unavailable,
)
from seawall.service.problem import MEDIA_TYPE, CallFailed, CallRefused
from seawall.transport.http1 import Answer

T = TypeVar("T")

# A `Retry-After` beyond it is of no use to a caller that waits; it is kept as a number anyway.
_LONGEST_PAUSE = 3600.0  # seconds


class UnexpectedAnswer(Refused):
    """The answer is not what `returns` asked for; asking again gives the same."""


class Headers(Mapping[str, str]):
    """Headers of an answer, by name in any case; of repeated ones the first."""

    def __init__(self, raw: tuple[tuple[bytes, bytes], ...]) -> None:
        self.raw = raw

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode("latin-1")
        for key, value in self.raw:
            if key == wanted:
                return value.decode("latin-1")
        raise KeyError(name)

    def __iter__(self) -> Any:
        return iter(dict.fromkeys(key.decode("latin-1") for key, _ in self.raw))

    def __len__(self) -> int:
        return len({key for key, _ in self.raw})


class Response:
    """What a service answered."""

    __slots__ = ("_answer", "service")

    def __init__(self, service: str, answer: Answer) -> None:
        self.service = service
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status

    status_code = status  # the name that httpx and requests have made usual

    @property
    def headers(self) -> Headers:
        return Headers(self._answer.headers)

    @property
    def body(self) -> bytes:
        return self._answer.body

    content = body

    @property
    def text(self) -> str:
        return self._answer.body.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        return self._answer.status < 400

    @overload
    def json(self) -> Any: ...

    @overload
    def json(self, returns: type[T]) -> T: ...

    def json(self, returns: type[T] | None = None) -> T | Any:
        """The body as JSON, checked against `returns` if given.

        Raises `UnexpectedAnswer` if it is not that.
        """
        try:
            if returns is None:
                return msgspec.json.decode(self.body)
            adapter: TypeAdapter[T] = _adapter(returns)  # type: ignore[arg-type]  # types are hashable
            return adapter.validate_json(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, ValidationError) as exc:
            raise UnexpectedAnswer(f"{self.service} answered {self.status}: {exc}") from exc

    @property
    def problem(self) -> Mapping[str, Any]:
        """The problem document of an error; empty if there is none."""
        if not self.headers.get("content-type", "").startswith(MEDIA_TYPE):
            return {}
        try:
            found = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def error(self) -> SeawallError | None:
        """The error that this answer stands for; None below 400."""
        status = self.status
        if status < 400:
            return None
        problem = self.problem
        if status == 429:
            return RateLimited(f"{self.service} limits our rate", retry_after=self.retry_after)
        if status == 503 and problem.get("retryable") is True:
            return Unavailable(
                f"{self.service}: {problem.get('detail', 'is not available')}",
                retry_after=self.retry_after,
            )
        if status == 504:
            return DeadlineExceeded(f"{self.service}: {problem.get('detail', 'time ran out')}")
        if status < 500:
            return CallRefused(self.service, status, problem)
        return CallFailed(self.service, status, problem)

    @property
    def retry_after(self) -> float | None:
        """Seconds that `Retry-After` asks for, where it says so in seconds."""
        text = self.headers.get("retry-after", "")
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            return None
        return min(float(text), _LONGEST_PAUSE)

    def raise_for_status(self) -> "Response":
        """Raise `error` if there is one; return this response otherwise."""
        if (error := self.error) is not None:
            raise error
        return self

    def __repr__(self) -> str:
        return f"<Response {self.status} from {self.service}, {len(self.body)} bytes>"


def final(response: Response, error: SeawallError) -> bool:
    """Did a layer below say that it used up the tries there were?"""
    if response.headers.get("x-retryable") == "false":
        return True  # a gateway, of an answer that it passed on
    return isinstance(error, OutcomeUnknown) and response.problem.get("retryable") is False


@lru_cache(maxsize=512)  # models of one program's answers
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
