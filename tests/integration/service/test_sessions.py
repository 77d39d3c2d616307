"""Sessions of browsers, from the cookie to Valkey and back."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
from redis.asyncio import Redis

from seawall import Service
from seawall.identity.sessions import SessionRules
from seawall.service.sessions import BrowserSession
from seawall.testing.platform import Platform
from tests.support import servers
from tests.support.waiting import eventually


class Browser:
    """A browser, and what the test sees behind it."""

    def __init__(self, http: httpx2.AsyncClient, redis: "Redis", namespace: str) -> None:
        self.http = http
        self.redis = redis
        self.namespace = namespace
        self.saving = 0
        self.release = asyncio.Event()

    @property
    def name(self) -> str | None:
        return self.http.cookies.get("session")

    async def key(self) -> bytes:
        """The only thing stored."""
        (found,) = [key async for key in self.redis.scan_iter(f"*{self.namespace}*")]
        return bytes(found)


@pytest.fixture
async def browser(valkey: servers.RespServer, unique: str) -> AsyncIterator[Browser]:
    async with Platform(messages=f"{valkey.url}?namespace={unique}") as system:
        service = Service("shop")
        sessions = service.sessions(rules=SessionRules(idle=60.0, lifetime=3600.0))
        Current = Annotated[BrowserSession, sessions.current]  # noqa: N806 - a type
        held: list[Browser] = []

        @service.post("/login/{user}")
        async def login(user: str, session: Current) -> None:
            await session.log_in({**session.data, "user": user})

        @service.post("/basket/{sku}")
        async def add(sku: str, session: Current) -> None:
            await session.save({**session.data, sku: 1})

        @service.post("/slowly/{sku}")
        async def slowly(sku: str, session: Current) -> None:
            held[0].saving += 1
            await held[0].release.wait()
            await session.save({**session.data, sku: 1})

        @service.get("/data")
        async def data(session: Current) -> dict[str, Any]:
            return dict(session.data)

        @service.post("/logout")
        async def logout(session: Current) -> None:
            await session.end()

        await system.start(service)
        async with (
            httpx2.AsyncClient(base_url=system.url("shop"), timeout=30) as http,
            Redis.from_url(valkey.url, driver_info=None) as redis,
        ):
            held.append(Browser(http, redis, unique))
            yield held[0]


async def test_nobody_gets_a_session_who_needs_none(browser: Browser) -> None:
    answer = await browser.http.get("/data")
    assert answer.json() == {}
    assert "set-cookie" not in answer.headers
    assert [key async for key in browser.redis.scan_iter(f"*{browser.namespace}*session*")] == []


async def test_logging_in_changes_the_name_and_ends_the_old_one(browser: Browser) -> None:
    await browser.http.post("/basket/tea")
    planted = browser.name
    assert planted
    await browser.http.post("/login/ann")
    assert browser.name != planted
    assert (await browser.http.get("/data")).json() == {"tea": 1, "user": "ann"}
    browser.http.cookies.clear()
    thief = await browser.http.get("/data", headers={"cookie": f"session={planted}"})
    assert thief.json() == {}


async def test_the_cookie_is_for_http_alone_and_for_this_site(browser: Browser) -> None:
    plain = await browser.http.post("/login/ann")
    attributes = {part.strip().lower() for part in plain.headers["set-cookie"].split(";")[1:]}
    assert attributes == {"httponly", "path=/", "samesite=lax", "max-age=3600"}
    # The gateway has ended TLS and says so.
    secure = await browser.http.post("/login/ann", headers={"x-forwarded-proto": "https"})
    assert "secure" in secure.headers["set-cookie"].lower()
    assert "ann" not in plain.headers["set-cookie"]


async def test_every_request_starts_the_idle_time_anew(browser: Browser) -> None:
    await browser.http.post("/basket/tea")
    key = await browser.key()
    assert browser.name
    assert hashlib.sha256(browser.name.encode()).hexdigest().encode() in key
    assert browser.name.encode() not in key  # whoever reads the store cannot enter with it
    await browser.redis.expire(key, 5)
    before = await browser.redis.dump(key)
    assert (await browser.http.get("/data")).json() == {"tea": 1}
    assert 55 < await browser.redis.ttl(key) <= 60
    assert await browser.redis.dump(key) == before  # touched, not written
    await browser.redis.delete(key)
    assert (await browser.http.get("/data")).json() == {}


async def test_an_update_that_would_lose_another_is_refused(browser: Browser) -> None:
    await browser.http.post("/basket/tea")
    async with asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(browser.http.post("/slowly/milk"))
        await eventually(lambda: browser.saving == 1)
        assert (await browser.http.post("/basket/sugar")).status_code == 200
        browser.release.set()
    assert slow.result().status_code == 409
    assert slow.result().headers["content-type"] == "application/problem+json"
    assert (await browser.http.get("/data")).json() == {"tea": 1, "sugar": 1}


async def test_logging_out_leaves_nothing(browser: Browser) -> None:
    await browser.http.post("/login/ann")
    name = browser.name
    await browser.http.post("/logout")
    assert browser.name is None
    assert [key async for key in browser.redis.scan_iter(f"*{browser.namespace}*session*")] == []
    again = await browser.http.get("/data", headers={"cookie": f"session={name}"})
    assert again.json() == {}


@pytest.mark.parametrize("name", ["", "x", "a" * 5000, "../../etc", "a b", '"' + "b" * 43 + '"'])
async def test_a_made_up_name_is_nobody(browser: Browser, name: str) -> None:
    answer = await browser.http.get("/data", headers={"cookie": f"session={name}"})
    assert (answer.status_code, answer.json()) == (200, {})
