"""One Valkey or Redis server, asked with bounds: connections, seconds, and our own errors.

The library would reconnect and try again by itself. Here it does neither: whoever calls knows
whether a second try is right, and a stream of changes that reconnects silently has lost some.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, RedisError

from seawall.errors import Misconfigured, Unavailable

# From taking a connection to the answer. Local answers take under a millisecond; a second is
# what a busy server needs to save or to fail over; a third of a lease is 3.3 s.
PATIENCE = 2.0  # seconds

# One for each call under way and one for each open subscription. When they are all taken,
# callers wait for one within their patience.
CONNECTIONS = 8


class Server:
    """A client of the server at `url`; every method raises `Unavailable` for whatever fails.

    It belongs to the event loop that uses it first.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE) -> None:
        self.name = without_password(url)
        self._patience = patience
        try:
            pool = BlockingConnectionPool.from_url(
                plain_url(url),
                max_connections=CONNECTIONS,
                timeout=patience,
                # `bounded` has the time in hand. The library's own time-outs are `wait_for`, which
                # before Python 3.12 loses a cancellation that comes as the command was written.
                socket_timeout=None,
                socket_connect_timeout=patience,
                retry=Retry(NoBackoff(), 0),
                # It would look up its own version on the disk, and cost two round trips.
                driver_info=None,
            )
        except (ValueError, RedisError) as exc:
            raise Misconfigured(
                f"{self.name} is not the address of a Valkey or Redis: {exc}",
                fix="redis://host:6379/0, rediss://host:6379/0 or unix:///path.sock?db=0",
            ) from exc
        self._redis: Redis = Redis.from_pool(pool)

    def script(self, source: str) -> "Script":
        return Script(self, self._redis, source)

    @contextmanager
    def translated(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError, TimeoutError) as exc:
            raise Unavailable(f"{self.name}: {str(exc) or 'no answer in time'}") from exc

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Whatever is awaited in the block ends in time, or raises `Unavailable`."""
        with self.translated():
            async with asyncio.timeout(self._patience):
                yield

    @asynccontextmanager
    async def subscribed(self, channel: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a stream of what is published on `channel`; the server has confirmed it."""
        pubsub = self._redis.pubsub()
        try:
            async with self.bounded():
                await pubsub.subscribe(channel)
                if await pubsub.get_message(timeout=self._patience) is None:
                    raise TimeoutError
            yield self._published(pubsub)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _published(self, pubsub: PubSub) -> AsyncIterator[bytes]:
        # A server that stands still, or a connection that a firewall forgot, says nothing for
        # ever. So silence is answered with a ping, and a second silence is the end.
        asked = False
        while True:
            with self.translated():
                message = await pubsub.get_message(timeout=self._patience)
                if message is None and asked:
                    raise Unavailable(f"{self.name}: silent for {2 * self._patience} s")
                asked = message is None
                if asked:
                    async with asyncio.timeout(self._patience):
                        await pubsub.ping()
            if message is not None and message["type"] == "message":
                yield message["data"]

    async def aclose(self) -> None:
        """Close all connections. Calling it twice is fine."""
        with suppress(RedisError, OSError, TimeoutError):  # then it is closed already
            await self._redis.aclose()

    def __repr__(self) -> str:
        return f"<Server {self.name}>"


class Script:
    """A Lua script: all of it happens, or nothing, and nothing in between."""

    def __init__(self, server: Server, redis: Redis, source: str) -> None:
        self._server = server
        self._redis = redis
        self._script = redis.register_script(source)

    async def __call__(self, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> Any:
        async with self._server.bounded():
            try:
                return await self._script(keys=list(keys), args=list(arguments))
            except ReadOnlyError:
                # This server was the primary and is not any more. A new connection may lead to
                # the one that is; those we have never will.
                await self._redis.connection_pool.disconnect()
                raise


def plain_url(url: str) -> str:
    """`url` as the library reads it: `valkey` is another word for `redis`."""
    scheme, separator, rest = url.partition("://")
    return {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme) + separator + rest


def without_password(url: str) -> str:
    """`url` fit for logs and errors."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
