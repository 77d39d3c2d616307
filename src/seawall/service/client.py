"""Calls to another service: found in the registry, balanced, guarded, traced.

This is what users hold: verbs, JSON and types. What happens to a call is `calls.py`'s.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload
from urllib.parse import quote, urlencode

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from seawall.clock import SYSTEM, Clock
from seawall.errors import Misconfigured, NotSent, OutcomeUnknown, SeawallError
from seawall.facts import Observer, ignore
from seawall.registry.watcher import Watcher
from seawall.resilience.breaker import Breaker
from seawall.resilience.deadline import HEADER, Deadline, tightest
from seawall.service import context
from seawall.service.calls import ClientConfig, Destination, Towards
from seawall.service.response import Response

T = TypeVar("T")

Json = BaseModel | Mapping[str, Any] | Sequence[Any] | str | int | float | bool | None

# What a path may hold unescaped (RFC 3986 pchar, "/", "?" excluded); an existing %XX stays.
_PATH_SAFE = "/:@!$&'()*+,;=~-._%"


# Said by the client alone: a second one would change where the request ends or what it is.
_OURS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"),
        *("traceparent", "tracestate", HEADER),
    }
)


class Client:
    """Calls one service.

    Without `returns` a call returns the `Response`, whatever its status, after the retries that
    are safe; with `returns` it returns that type, and an answer of 400 or above is raised as the
    error it stands for. Where there is no answer the call raises: `NotSent` and its kinds
    (`NoInstance`, `BreakerOpen`, ...) if the request was not sent, `OutcomeUnknown` and
    `DeadlineExceeded` if it may have been carried out.

    What was not sent is tried again on another instance; what may have been carried out only if
    the method is idempotent or there is an idempotency key.
    """

    def __init__(
        self,
        service: str,
        *,
        version: str = "*",
        url: str | None = None,
        config: ClientConfig | None = None,
        clock: Clock = SYSTEM,
        rng: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._to = Destination(
            service,
            version,
            url,
            config or ClientConfig(),
            clock=clock,
            rng=rng or random.Random(),
        )

    @property
    def service(self) -> str:
        """The name of the service called."""
        return self._to.service

    @property
    def config(self) -> ClientConfig:
        """How it was declared."""
        return self._to.config

    def open(
        self,
        watcher: Watcher | None,
        observer: Observer = ignore,
        towards: Towards | None = None,
    ) -> None:
        """Called by the service when it starts; `watcher` tells where instances are, and
        `towards` how to call them: in plain text without it."""
        self._to.open(watcher, observer, towards)

    def close(self) -> None:
        """Close the connections. Calling it twice is fine."""
        self._to.close()

    # as its metrics have it

    def breakers(self) -> list[Breaker]:
        """The service's, and those of its instances."""
        return [self._to.breaker, *(one.breaker for one in self._to.endpoints)]

    def picks(self) -> dict[str, int]:
        """How often each instance was chosen, by its id."""
        return {one.instance.instance_id: one.picks for one in self._to.endpoints}

    def retry_budget(self) -> float:
        """The share of the retries allowed now that is left, 0 to 1."""
        return self._to.budget.share(self._clock.now())

    # calls

    @overload
    async def get(
        self, path: str, *, params: Mapping[str, object] | None = ..., returns: type[T], **more: Any
    ) -> T: ...

    @overload
    async def get(
        self, path: str, *, params: Mapping[str, object] | None = ..., **more: Any
    ) -> Response: ...

    async def get(self, path: str, **more: Any) -> Any:
        """GET; `more` as in `request`."""
        return await self.request("GET", path, **more)

    @overload
    async def post(self, path: str, json: Json = ..., *, returns: type[T], **more: Any) -> T: ...

    @overload
    async def post(self, path: str, json: Json = ..., **more: Any) -> Response: ...

    async def post(self, path: str, json: Json = None, **more: Any) -> Any:
        """POST; retried after an unknown outcome only with an `idempotency_key`."""
        return await self.request("POST", path, json, **more)

    @overload
    async def put(self, path: str, json: Json = ..., *, returns: type[T], **more: Any) -> T: ...

    @overload
    async def put(self, path: str, json: Json = ..., **more: Any) -> Response: ...

    async def put(self, path: str, json: Json = None, **more: Any) -> Any:
        """PUT; `more` as in `request`."""
        return await self.request("PUT", path, json, **more)

    @overload
    async def patch(self, path: str, json: Json = ..., *, returns: type[T], **more: Any) -> T: ...

    @overload
    async def patch(self, path: str, json: Json = ..., **more: Any) -> Response: ...

    async def patch(self, path: str, json: Json = None, **more: Any) -> Any:
        """PATCH; retried after an unknown outcome only with an `idempotency_key`."""
        return await self.request("PATCH", path, json, **more)

    @overload
    async def delete(self, path: str, *, returns: type[T], **more: Any) -> T: ...

    @overload
    async def delete(self, path: str, **more: Any) -> Response: ...

    async def delete(self, path: str, **more: Any) -> Any:
        """DELETE; `more` as in `request`."""
        return await self.request("DELETE", path, **more)

    async def request(  # noqa: PLR0913 - what a call consists of
        self,
        method: str,
        path: str,
        json: Json = None,
        *,
        params: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        returns: Any = None,
        timeout: float | None = None,  # noqa: ASYNC109 - handed down, not waited for here
        idempotency_key: str | None = None,
        fallback: Callable[[SeawallError], Any] | None = None,
    ) -> Any:
        """Make a call.

        `timeout` bounds the whole call, all tries included, in seconds (each try has the
        client's own); the caller's deadline bounds it too. `json` is a model or anything JSON
        can say; `content` is sent as it is. `fallback(error)` gives the result where the service
        gave no answer or failed; it is not asked where the service refused.
        """
        body, fields = _body_and_headers(json, content, headers, idempotency_key)
        deadline = context.current().deadline
        if timeout is not None:
            deadline = tightest(deadline, Deadline.after(timeout, self._clock.now()))
        try:
            response = await self._to.call(
                method, self._target(path, params), fields, body, deadline
            )
        except (NotSent, OutcomeUnknown) as error:
            if fallback is None:
                raise
            return fallback(error)
        return self._result(response, returns, fallback)

    def _result(
        self, response: Response, returns: Any, fallback: Callable[[SeawallError], Any] | None
    ) -> Any:
        error = response.error
        if fallback is not None and isinstance(error, NotSent | OutcomeUnknown):
            return fallback(error)
        if returns is None:
            return response
        if error is not None:
            raise error
        return response.json(returns)

    def _target(self, path: str, params: Mapping[str, object] | None) -> str:
        if not path.startswith("/"):
            raise ValueError(f"a path starts with '/', not {path!r}")
        given, _, query = path.partition("?")
        target = self._to.prefix + quote(given, safe=_PATH_SAFE)
        more = urlencode({k: v for k, v in (params or {}).items() if v is not None}, doseq=True)
        query = "&".join(part for part in (quote(query, safe="=&?" + _PATH_SAFE), more) if part)
        return f"{target}?{query}" if query else target

    def __repr__(self) -> str:
        return f"<Client of {self.service} {self._to.constraint}, {self._to.breaker!r}>"


def _body_and_headers(
    json: Json, content: bytes | None, headers: Mapping[str, str] | None, key: str | None
) -> tuple[bytes | None, list[tuple[str, str]]]:
    fields = {name.lower(): value for name, value in (headers or {}).items()}
    if written := fields.keys() & _OURS:
        raise ValueError(f"{', '.join(sorted(written))}: headers that the client writes itself")
    here = context.current()
    for name, value in here.caller.items():
        fields.setdefault(name, value)
    if here.request_id:
        fields.setdefault(context.REQUEST_ID, here.request_id)
    if key is not None:
        fields[context.IDEMPOTENCY_KEY] = key
    fields.setdefault("accept", "application/json")
    if content is not None:
        return content, list(fields.items())
    if json is None:
        return None, list(fields.items())
    fields.setdefault("content-type", "application/json")
    return encode(json), list(fields.items())


def encode(value: object) -> bytes:
    """`value` as JSON. Raises `Misconfigured` for what JSON cannot say."""
    try:
        return to_json(value, inf_nan_mode="null")
    except (PydanticSerializationError, UnicodeEncodeError) as exc:
        raise Misconfigured(f"{type(value).__name__} cannot be written as JSON: {exc}") from exc
