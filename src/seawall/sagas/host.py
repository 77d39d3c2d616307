"""What sagas need of the service they live in: its database, its queues, its time, its operator."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncSession

from seawall.facts import Observer
from seawall.messaging.base import Delivery
from seawall.messaging.consumer import ConsumerConfig
from seawall.messaging.policy import RetryPolicy


class Database(Protocol):
    """The service's database, as a service's `database()` returns it."""

    def add_tables(self, metadata: MetaData) -> None:
        """Create these tables too when the database is opened."""

    def transaction(self) -> AbstractAsyncContextManager[AsyncSession]: ...

    def read(self) -> AbstractAsyncContextManager[AsyncSession]: ...


Operation = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]

Take = Callable[[Delivery, AsyncSession], Awaitable[None]]


class Host(Protocol):
    """What a saga needs of the service it lives in; `seawall.service.service.Service` is one."""

    @property
    def name(self) -> str: ...

    @property
    def observer(self) -> Observer: ...

    def worker(
        self, queue: str, /, *, retry: RetryPolicy, config: ConsumerConfig
    ) -> Callable[[Take], object]:
        """Hand every delivery of `queue` to a function, in a transaction with its inbox row."""

    def publishes(self, topic: str, model: type | None, /) -> object:
        """Say that messages of this kind go to `topic`."""

    def background(self, work: Callable[[], Coroutine[Any, Any, None]], /) -> object:
        """Run `work` while the service runs."""

    def offer(self, name: str, operation: Operation, /) -> Operation:
        """Let an operator ask `operation`; returns what is offered under that name already, if
        something is."""
