"""Routes that may be repeated: `Idempotency-Key` on a POST.

Claim, effects and answer are one transaction of the service's database. That is what makes it
exact: a crash at any line leaves either nothing, and the repetition runs, or all of it, and the
repetition gets the kept answer. A repetition that comes while the first still runs waits for
that transaction. Errors of the server (5xx) roll back and are not kept.
"""

import hashlib
from collections.abc import Callable, Coroutine
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
    delete,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.exceptions import HTTPException
from starlette.responses import Response

from seawall.clock import SYSTEM
from seawall.errors import Misconfigured
from seawall.service import context
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
    Column("at", Float, nullable=False, index=True),
)

# How long an answer is kept. Clients repeat within minutes; a day covers a queue that stood
# still overnight.
KEPT_FOR = 86_400.0  # seconds

_MAX_KEY = 255  # characters; a UUID has 36

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class _NotKept(Exception):
    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Memory:
    """The answers of one service's idempotent routes."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._endpoints: set[Callable[..., Any]] = set()
        self.database: Database | None = None

    def add(self, endpoint: Callable[..., Any]) -> None:
        """Routes to this function, declared from here on, remember their answers."""
        self._endpoints.add(endpoint)

    def __contains__(self, endpoint: object) -> bool:
        return endpoint in self._endpoints

    def check(self) -> None:
        """Raise `Misconfigured` if there is something to remember and nowhere to keep it."""
        if self._endpoints and self.database is None:
            raise Misconfigured(
                f"{self._service} has idempotent routes and no database to remember answers in",
                fix=f"{self._service}.database()",
            )

    def around(self, handle: Handle, route: str) -> Handle:
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
                    if not await _claim(tx, place, digest):
                        return await _again(tx, place, digest)
                    response = await handle(request)
                    if response.status_code >= 500:
                        raise _NotKept(response)
                    await _keep(tx, place, response)
                    return response
            except _NotKept as given:
                return given.response

        return once


async def _claim(tx: AsyncSession, place: dict[str, str], digest: str) -> bool:
    """True if nobody had this key before. Waits for a transaction that claims it now."""
    insert = _INSERT[tx.get_bind().dialect.name](KEPT)
    statement = (
        insert.values(**place, body_hash=digest, at=SYSTEM.wall())
        .on_conflict_do_nothing()
        .returning(KEPT.c.key)
    )
    return (await tx.execute(statement)).first() is not None


async def _again(tx: AsyncSession, place: dict[str, str], digest: str) -> Response:
    found = (await tx.execute(select(KEPT).where(*_at(place)))).one()
    if found.body_hash != digest:
        raise HTTPException(422, "this Idempotency-Key was used with another body")
    response = Response(found.body, status_code=found.status)
    response.raw_headers = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in msgspec.json.decode(found.headers)
    ]
    response.headers["idempotency-replayed"] = "true"
    return response


async def _keep(tx: AsyncSession, place: dict[str, str], response: Response) -> None:
    if not hasattr(response, "body") or hasattr(response, "body_iterator"):
        raise Misconfigured(f"{place['route']} streams its answer, which cannot be kept")
    headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.raw_headers]
    values = {
        "status": response.status_code,
        "headers": msgspec.json.encode(headers).decode(),
        "body": bytes(response.body),
    }
    await tx.execute(update(KEPT).where(*_at(place)).values(**values))


def _at(place: dict[str, str]) -> list[Any]:
    return [KEPT.c[name] == value for name, value in place.items()]


async def forget(database: Database) -> None:
    """Delete answers that are older than `KEPT_FOR`."""
    async with database.transaction() as tx:
        await tx.execute(delete(KEPT).where(KEPT.c.at < SYSTEM.wall() - KEPT_FOR))


class Route(APIRoute):
    """FastAPI's route, which remembers its answers where the service says so."""

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()
        memory = getattr(self.dependency_overrides_provider, "memory", None)
        if not isinstance(memory, Memory) or self.endpoint not in memory:
            return handle
        return memory.around(handle, f"{'/'.join(sorted(self.methods or ()))} {self.path}")
