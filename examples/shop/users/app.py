"""Users: accounts, and tokens that say who somebody is.

Tokens are signed with a private key that never leaves this service; the gateway checks them with
the public half, published at `/.well-known/jwks.json`.
"""

import asyncio
import os
import uuid
from typing import Any

import sqlalchemy as sa
from fastapi import HTTPException
from pydantic import BaseModel, Field
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from seawall import Caller, Service, Unavailable
from seawall.clock import SYSTEM
from seawall.identity.signing import SigningKey, jwks
from seawall.identity.tokens import TokenIssuer
from shop.contracts import UserRegistered
from shop.users.passwords import Passwords

ISSUER = "shop"
LIFETIME = 3600.0  # seconds a token is good for


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(sa.String(60), primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(254), unique=True)
    password: Mapped[str] = mapped_column(sa.String(200))  # argon2id, with its salt and costs


service = Service("users", version="1.0.0")
service.publishes("user.registered", UserRegistered)
database = service.database(min_size=1, max_size=10, metadata=Base.metadata)
passwords = Passwords()
_signing: list[SigningKey] = []


@service.on_start
async def read_key() -> None:
    """All replicas read one file; whoever is first makes it."""
    path = os.environ.get("SHOP_SIGNING_KEY", "users-key.json")
    _signing[:] = [await asyncio.to_thread(SigningKey.load_or_create, path)]


def signing_key() -> SigningKey:
    if not _signing:
        raise Unavailable("the service has not started")
    return _signing[0]


class Credentials(BaseModel):
    # Enough to keep out slips of the pen; only a mail that arrives proves an address.
    email: str = Field(max_length=254, pattern=r"^[^@\s<>,;\"]+@[^@\s<>,;\"]+\.[^@\s<>,;\"]+$")
    password: str = Field(min_length=8, max_length=256)


class Registered(BaseModel):
    user_id: str
    email: str


class Token(BaseModel):
    access_token: str
    token_type: str = "Bearer"
    expires_in: int = int(LIFETIME)


@service.post("/users", status_code=201)
async def register(new: Credentials) -> Registered:
    email = new.email.lower()
    row = User(id=uuid.uuid4().hex, email=email, password=await passwords.hash(new.password))
    try:
        async with database.transaction() as tx:
            tx.add(row)
            await tx.flush()
            told = UserRegistered(user_id=row.id, email=email)
            await service.publish("user.registered", told, key=row.id, tx=tx)
    except IntegrityError:
        raise HTTPException(409, "there is an account of that address") from None
    return Registered(user_id=row.id, email=email)


@service.post("/login")
async def login(who: Credentials) -> Token:
    async with database.read() as session:
        row = await session.scalar(sa.select(User).where(User.email == who.email.lower()))
    if not await passwords.matches(row.password if row else None, who.password) or row is None:
        raise HTTPException(401, "address or password is wrong", {"www-authenticate": "Bearer"})
    issuer = TokenIssuer(signing_key(), issuer=ISSUER, audience=ISSUER, lifetime=LIFETIME)
    return Token(access_token=issuer.issue(row.id, SYSTEM.wall()))


@service.get("/users/me")
async def me(caller: Caller) -> Registered:
    async with database.read() as session:
        row = await session.get(User, caller.subject)
    if row is None:
        raise HTTPException(404, "this account is gone")
    return Registered(user_id=row.id, email=row.email)


@service.get("/.well-known/jwks.json", summary="The public keys that tokens are checked with")
async def keys() -> dict[str, Any]:
    return jwks(signing_key())
