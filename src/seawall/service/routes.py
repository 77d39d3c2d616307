"""Routes that may be repeated: `Idempotency-Key` on a POST.

Claim, effects and answer are one transaction of the service's database. That is what makes it
exact: a crash at any line leaves either nothing, and the repetition runs, or all of it, and the
repetition gets the kept answer. A repetition that comes while the first still runs waits for
that transaction, though not for ever. Errors of the server (5xx) roll back and are not kept.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import Request
from fastapi.routing import APIRoute
from sqlalchemy import (
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    delete,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import Executable
from starlette.exceptions import HTTPException
from starlette.responses import Response

from seawall.clock import SYSTEM
from seawall.errors import Misconfigured
from seawall.messaging.prepared import Prepared
from seawall.service import context
from seawall.service.bodies import CheckedRequest
from seawall.service.database import Database

metadata = MetaData()

KEPT = Table(
    "seawall_idempotency",
    metadata,
    Column("caller", String(255), primary_key=True),
    Column("route", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("status", Integer),
    Column("headers", Text),
    Column("body", LargeBinary),
    Column("until", Float, nullable=False, index=True),  # wall clock; then the key is new again
)

# Rows deleted in one transaction: it holds SQLite's only write lock for a few milliseconds.
CHUNK = 1_000

_MAX_KEY = 255  # characters; a UUID has 36


def _claiming(insert: "sqlite.Insert | postgresql.Insert") -> Executable:
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=["caller", "route", "key"],
        set_={name: new[name] for name in ("body_hash", "until", "status", "headers", "body")},
        where=KEPT.c.until <= bindparam("now"),
    ).returning(KEPT.c.key)


_CLAIM = Prepared(
    _claiming(sqlite.insert(KEPT)),
    tuple(KEPT.c.keys()),
    postgresql=_claiming(postgresql.insert(KEPT)),
)
_KEEP = Prepared(
    update(KEPT).where(
        KEPT.c.caller == bindparam("by"),
        KEPT.c.route == bindparam("at"),
        KEPT.c.key == bindparam("named"),
    ),
    ("status", "headers", "body"),
)

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Idempotency:
    """How the answers of a route are kept; raises `Misconfigured`."""

    # Clients repeat within minutes; a day covers a queue that stood still overnight.
    kept_for: float = 86_400.0  # seconds
    # A repetition waits this long for one that runs; a handler that takes longer is no route's.
    # On SQLite the wait for the file may end it before, with 503.
    wait: float = 5.0  # seconds
    # A kept answer is a row of the database. Longer ones belong under an address of their own.
    max_body: int = 256 * 1024  # bytes

    def __post_init__(self) -> None:
        if min(self.kept_for, self.wait, self.max_body) <= 0:
            raise Misconfigured(f"kept_for, wait and max_body are above 0, not {self}")


class _NotKept(Exception):
    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Memory:
    """The answers of one service's idempotent routes."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._endpoints: dict[Callable[..., Any], Idempotency] = {}
        self.database: Database | None = None

    def add(self, endpoint: Callable[..., Any], how: Idempotency) -> None:
        """Routes to this function, declared from here on, remember their answers."""
        self._endpoints[endpoint] = how

    def of(self, endpoint: Callable[..., Any]) -> Idempotency | None:
        """How that function's answers are kept; None if they are not."""
        return self._endpoints.get(endpoint)

    def check(self) -> None:
        """Raise `Misconfigured` if there is something to remember and nowhere to keep it."""
        if self._endpoints and self.database is None:
            raise Misconfigured(
                f"{self._service} has idempotent routes and no database to remember answers in",
                fix=f"{self._service}.database()",
            )

    def around(self, handle: Handle, route: str, how: Idempotency) -> Handle:
        """`handle`, at most once for each key."""

        async def once(request: Request) -> Response:
            key = context.current().idempotency_key
            if key is None:
                return await handle(request)
            if not 0 < len(key) <= _MAX_KEY or not key.isascii() or not key.isprintable():
                raise HTTPException(400, f"an Idempotency-Key has 1 to {_MAX_KEY} ASCII characters")
            assert self.database is not None
            identity = context.current().identity
            place = {
                "caller": identity.subject[:255] if identity else "",
                "route": route[:255],
                "key": key,
            }
            digest = hashlib.sha256(await request.body()).hexdigest()
            try:
                async with self.database.shared_transaction() as tx:
                    if not await _claim_within(how, tx, place, digest):
                        return await _again(tx, place, digest)
                    response = await handle(request)
                    if response.status_code >= 500:
                        raise _NotKept(response)
                    await _keep(tx, place, response, how.max_body)
                    return response
            except _NotKept as given:
                return given.response

        return once


async def _claim_within(
    how: Idempotency, tx: AsyncSession, place: dict[str, str], digest: str
) -> bool:
    try:
        async with asyncio.timeout(how.wait):
            return await _claim(tx, place, digest, how.kept_for)
    except TimeoutError:
        raise HTTPException(
            409,
            "a request with this Idempotency-Key is still under way; repeat it later",
            headers={"retry-after": "1"},
        ) from None


async def _claim(tx: AsyncSession, place: dict[str, str], digest: str, kept_for: float) -> bool:
    """True if nobody had this key before, or so long ago that its answer is not kept any more.
    Waits for a transaction that claims it now."""
    now = SYSTEM.wall()
    fresh = {"body_hash": digest, "until": now + kept_for}
    unanswered = {"status": None, "headers": None, "body": None}
    claimed = await _CLAIM.run(tx, {**place, **fresh, **unanswered, "now": now})
    return bool(claimed.rows)


async def _again(tx: AsyncSession, place: dict[str, str], digest: str) -> Response:
    mine = [KEPT.c[name] == value for name, value in place.items()]
    found = (await tx.execute(select(KEPT).where(*mine))).one()
    if found.body_hash != digest:
        raise HTTPException(422, "this Idempotency-Key was used with another body")
    response = Response(found.body, status_code=found.status)
    response.raw_headers = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in msgspec.json.decode(found.headers)
    ]
    response.headers["idempotency-replayed"] = "true"
    return response


async def _keep(tx: AsyncSession, place: dict[str, str], response: Response, max_body: int) -> None:
    if not hasattr(response, "body") or hasattr(response, "body_iterator"):
        raise Misconfigured(f"{place['route']} streams its answer, which cannot be kept")
    if len(response.body) > max_body:
        raise Misconfigured(
            f"{place['route']} answered {len(response.body)} bytes, and {max_body} are kept",
            fix="answer where the result is, or idempotent=Idempotency(max_body=...)",
        )
    headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.raw_headers]
    values = {
        "status": response.status_code,
        "headers": msgspec.json.encode(headers).decode(),
        "body": bytes(response.body),
    }
    mine = {"by": place["caller"], "at": place["route"], "named": place["key"]}
    await _KEEP.run(tx, {**mine, **values})


async def forget(database: Database) -> None:
    """Delete answers that are not kept any more, in chunks, each a transaction of its own."""
    place = tuple_(KEPT.c.caller, KEPT.c.route, KEPT.c.key)
    old = (
        select(KEPT.c.caller, KEPT.c.route, KEPT.c.key)
        .where(KEPT.c.until <= SYSTEM.wall())
        .limit(CHUNK)
    )
    statement = delete(KEPT).where(place.in_(old))
    while True:
        async with database.transaction() as tx:
            deleted = (await (await tx.connection()).execute(statement)).rowcount
        if deleted < CHUNK:
            return


class Route(APIRoute):
    """FastAPI's route; it remembers its answers where the service says so."""

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()
        memory = getattr(self.dependency_overrides_provider, "memory", None)
        how = memory.of(self.endpoint) if isinstance(memory, Memory) else None
        if how is not None and isinstance(memory, Memory):
            handle = memory.around(
                handle, f"{'/'.join(sorted(self.methods or ()))} {self.path}", how
            )
        return handle if self.body_field is None else _checked(handle)


def _checked(handle: Handle) -> Handle:
    async def checked(request: Request) -> Response:
        return await handle(CheckedRequest(request.scope, request.receive))

    return checked
