"""One connection to NATS, shared by all who call; made when it is needed, and again after a loss.

nats-py speaks the protocol. Its own reconnecting is off: it would keep what callers gave up
until the server is back, and answer nobody meanwhile. Requests of one call travel together and
their answers come to one inbox, so a batch costs one round trip.

    not connected, refused                        Unavailable    nothing happened
    lost or silent after the request was written  OutcomeUnknown
    wrong password, no JetStream                  Misconfigured
"""

import asyncio
import itertools
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from seawall.concurrency.tasks import Tasks
from seawall.errors import Full, Misconfigured, OutcomeUnknown, Refused, SeawallError, Unavailable

CONNECT_TIMEOUT = 2.0  # seconds
CLOSE_TIMEOUT = 1.0  # seconds that a connection gets to send its last bytes
PING_EVERY = 10  # seconds; two unanswered ones end the connection

NO_RESPONDERS = "503"  # nobody listens there: no such stream or consumer


class Gone(Unavailable):
    """The stream or consumer does not exist (any more): make it, and ask again."""


class Post(NamedTuple):
    """Something to send that is answered."""

    subject: str
    body: bytes
    headers: dict[str, str] | None = None


class _Batch:
    """The answers to what was sent together."""

    def __init__(self, expected: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.replies: list[Msg | None] = [None] * expected
        self._missing = expected

    def take(self, place: int, reply: Msg) -> None:
        if self.replies[place] is None:
            self.replies[place] = reply
            self._missing -= 1
            if self._missing == 0 and not self.done.done():
                self.done.set_result(None)


class Wire:
    """A connection and its inbox; unusable for good once it was lost."""

    def __init__(self, client: Client, timeout: float) -> None:
        self.client = client
        self._timeout = timeout
        self._inbox = client.new_inbox()
        self._batches: dict[str, _Batch] = {}
        self._serial = itertools.count()
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def usable(self) -> bool:
        return not self.lost.done() and self.client.is_connected

    async def listen(self) -> None:
        await self.subscribe(f"{self._inbox}.*.*", self._answered)

    async def subscribe(self, subject: str, call: Callable[[Msg], Awaitable[None]]) -> Any:
        """Have messages to `subject` given to `call`, without a bound: what comes was asked for."""
        return await self.client.subscribe(
            subject, cb=call, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def _answered(self, reply: Msg) -> None:
        _, batch, place = reply.subject.rsplit(".", 2)
        if (waiting := self._batches.get(batch)) is not None:
            waiting.take(int(place), reply)

    def lose(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)
            for batch in self._batches.values():
                if not batch.done.done():
                    batch.done.set_exception(OutcomeUnknown(why))
                    batch.done.exception()  # may be nobody's any more: a cancelled caller's

    async def send(self, subject: str, body: bytes, reply: str = "") -> None:
        """Send one thing that nobody waits for."""
        try:
            await self.client.publish(subject, body, reply)
        except (nats.errors.Error, OSError) as error:
            raise OutcomeUnknown(f"connection lost: {error}") from error

    async def ask(self, posts: Sequence[Post]) -> list[Msg]:
        """Send all, and return their answers in order."""
        if not self.usable:
            raise Unavailable("the connection was lost")
        batch = _Batch(len(posts))
        name = str(next(self._serial))
        self._batches[name] = batch
        prefix = f"{self._inbox}.{name}."
        try:
            async with asyncio.timeout(self._timeout):
                publish = self.client.publish
                for place, post in enumerate(posts):
                    await publish(post.subject, post.body, f"{prefix}{place}", post.headers)
                await batch.done
        except TimeoutError:
            self.lose(f"no answer within {self._timeout} s")
            raise OutcomeUnknown(f"no answer within {self._timeout} s") from None
        except (nats.errors.Error, OSError) as error:
            self.lose(f"connection lost: {error}")
            raise OutcomeUnknown(f"connection lost: {error}") from error
        finally:
            del self._batches[name]
        return [reply for reply in batch.replies if reply is not None]


class NatsLink:
    """The connection of one transport."""

    def __init__(
        self,
        servers: Sequence[str],
        name: str,
        *,
        timeout: float,
        domain: str = "",
        credentials: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._servers = servers
        self._name = name
        self._timeout = timeout
        self._credentials = credentials
        self._tls = tls
        self._api = f"$JS.{domain}.API" if domain else "$JS.API"
        self._wire: Wire | None = None
        self._connecting = asyncio.Lock()
        self._closed = False
        self._tasks = Tasks()
        self.max_payload = 0  # bytes, as the server last told
        self.connects = 0

    async def ready(self) -> Wire:
        """The open connection. Raises `Unavailable` if there is none to be had."""
        wire = self._wire
        if wire is not None and wire.usable:
            return wire
        async with self._connecting:
            if self._closed:
                raise Unavailable("closed")
            if self._wire is None or not self._wire.usable:
                if self._wire is not None:
                    self._drop(self._wire, "the connection was lost")
                self._wire = await self._connect()
            return self._wire

    async def _connect(self) -> Wire:
        reasons = []
        for server in self._servers:
            try:
                return await self._connect_to(server)
            except Unavailable as error:
                reasons.append(str(error))
        raise Unavailable("; ".join(reasons))

    async def _connect_to(self, server: str) -> Wire:
        client = Client()
        wire = Wire(client, self._timeout)

        async def closed() -> None:
            wire.lose("connection lost: closed by the server")

        options: dict[str, Any] = {}
        if self._credentials:
            options["user_credentials"] = self._credentials
        if self._tls is not None:
            options["tls"] = self._tls
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await client.connect(
                    [server],
                    name=self._name,
                    allow_reconnect=False,
                    reconnect_time_wait=0,
                    max_reconnect_attempts=1,
                    ping_interval=PING_EVERY,
                    error_cb=_quiet,
                    disconnected_cb=closed,
                    closed_cb=closed,
                    **options,
                )
                await wire.listen()
        except (OSError, TimeoutError, nats.errors.Error) as error:
            self._drop(wire, "could not connect")
            if isinstance(error, nats.errors.AuthorizationError) or "authoriz" in str(error):
                raise Misconfigured(
                    f"NATS: {error}", fix="the user, password or credentials file of the URL"
                ) from error
            reason = str(error) or f"no answer within {CONNECT_TIMEOUT} s"
            raise Unavailable(f"NATS: {reason}") from error
        except BaseException:
            self._drop(wire, "could not connect")
            raise
        self.max_payload = client.max_payload
        self.connects += 1
        return wire

    def _drop(self, wire: Wire, why: str) -> None:
        wire.lose(why)
        self._tasks.start(_close(wire.client), name="nats-close")

    async def ask(self, posts: Sequence[Post]) -> list[Msg]:
        wire = await self.ready()
        return await wire.ask(posts)

    def api_subject(self, subject: str) -> str:
        return f"{self._api}.{subject}"

    async def api(self, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """Call JetStream; an answer may be an error: see `checked`."""
        posts = [
            Post(self.api_subject(subject), msgspec.json.encode(body)) for subject, body in calls
        ]
        replies = await self.ask(posts)
        if any(_status(reply) == NO_RESPONDERS for reply in replies):
            raise Misconfigured(
                "this NATS server has no JetStream", fix="start it with -js, or name the `domain`"
            )
        return [msgspec.json.decode(reply.data) for reply in replies]

    async def aclose(self) -> None:
        self._closed = True
        if self._wire is not None:
            self._drop(self._wire, "closed")
            self._wire = None
        await self._tasks.join()


async def _quiet(_: Exception) -> None:
    """What goes wrong is told to the callers it concerns."""


async def _close(client: Client) -> None:
    with suppress(OSError, TimeoutError, nats.errors.Error, asyncio.InvalidStateError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await client.close()


def _status(reply: Msg) -> str:
    return (reply.headers or {}).get("Status", "")


status_of = _status

# Codes of JetStream's errors: what they mean to a caller.
_NOT_THERE = {10059, 10014, 10037, 10043}  # no stream, no consumer, no message (two kinds)
_FULL = {10077, 10109, 10122, 10023, 10028, 10047}  # messages, a subject's, bytes, resources
_TOO_LARGE = {10054, 10111}
EXISTS = {10058, 10013, 10148}  # a stream or consumer that was configured differently


def error_of(answer: dict[str, Any]) -> SeawallError | None:
    """The error that a JetStream answer is, or None."""
    error = answer.get("error")
    if error is None:
        return None
    code, text = error.get("err_code", 0), f"NATS: {error.get('description', error)}"
    if code in _NOT_THERE:
        return Gone(text)
    if code in _FULL:
        return Full(text)
    if code in _TOO_LARGE:
        return Refused(text)
    return Unavailable(text) if error.get("code", 0) >= 500 else Refused(text)


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer; raises if it is an error."""
    error = error_of(answer)
    if error is not None:
        raise error
    return answer


def stored(reply: Msg) -> SeawallError | None:
    """What became of a published message: None if it is stored."""
    if _status(reply) == NO_RESPONDERS:
        return Gone("no such stream")
    return error_of(msgspec.json.decode(reply.data))
