import asyncio
import json
from collections.abc import AsyncIterator
from random import Random

import pytest

from seawall.errors import Misconfigured, Unavailable
from seawall.identity.claims import BadSignature, KeysUnavailable, UnknownKey
from seawall.identity.remote_keys import (
    MAX_DOCUMENT,
    KeysFetched,
    KeysNotFetched,
    RemoteKeys,
    RemoteKeysConfig,
)
from seawall.identity.signing import SigningKey, jwks
from seawall.identity.tokens import TokenIssuer, TokenVerifier
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually

OLD, NEW = SigningKey.generate(), SigningKey.generate()
URL = "http://users/.well-known/jwks.json"
NOW = 1_700_000_000.0


class Issuer:
    """A server of key sets that can fail."""

    def __init__(self) -> None:
        self.document: bytes | Exception = json.dumps(jwks(OLD)).encode()
        self.asked = 0

    async def fetch(self, url: str) -> bytes:
        assert url == URL
        self.asked += 1
        if isinstance(self.document, Exception):
            raise self.document
        return self.document


class World:
    def __init__(self) -> None:
        self.issuer, self.clock, self.facts = Issuer(), ManualClock(), list[object]()
        self.keys = RemoteKeys(
            URL,
            self.issuer.fetch,
            observer=self.facts.append,
            clock=self.clock,
            rng=Random(1),
            config=RemoteKeysConfig(refresh=300, spacing=10, patience=5),
        )

    async def settled(self, asked: int) -> None:
        """Wait until the issuer was asked that often and the task sleeps again."""
        await eventually(lambda: self.issuer.asked == asked and self.clock.sleeping == 1)

    async def turn(self) -> None:
        for _ in range(20):
            await asyncio.tasks.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.keys:
        yield made


async def test_keys_are_fetched_at_the_start(world: World) -> None:
    await world.settled(asked=1)
    assert world.keys.find(OLD.kid, "ES256").kid == OLD.kid
    assert world.facts == [KeysFetched(URL, 1, True)]


async def test_before_that_nothing_can_be_said_of_a_token() -> None:
    token = TokenIssuer(OLD, issuer="u", audience="s").issue("ann", NOW)
    with pytest.raises(KeysUnavailable) as none:
        TokenVerifier(World().keys).verify(token, NOW)
    assert none.value.retry_after == 1


async def test_they_are_refreshed_now_and_then(world: World) -> None:
    await world.settled(asked=1)
    world.clock.advance(10)
    await world.turn()
    world.issuer.document = json.dumps(jwks(NEW)).encode()
    version = world.keys.version
    world.clock.advance(300)
    await world.settled(asked=2)
    assert world.keys.find(NEW.kid, "ES256")
    assert world.keys.version != version
    with pytest.raises(UnknownKey):
        world.keys.find(OLD.kid, "ES256")


async def test_the_same_keys_again_keep_what_was_believed(world: World) -> None:
    await world.settled(asked=1)
    version = world.keys.version
    world.clock.advance(10)
    await world.turn()
    world.clock.advance(300)
    await world.settled(asked=2)
    assert world.keys.version == version
    assert world.facts[-1] == KeysFetched(URL, 1, False)


async def test_an_unknown_key_is_looked_for_at_once_and_then_seldom(world: World) -> None:
    await world.settled(asked=1)
    world.clock.advance(10)
    await world.turn()
    world.issuer.document = json.dumps(jwks(OLD, NEW)).encode()
    for n in range(1000):
        with pytest.raises(UnknownKey):
            world.keys.find(f"made-up-{n}", "ES256")
    with pytest.raises(UnknownKey):
        world.keys.find(NEW.kid, "ES256")
    await world.settled(asked=2)
    assert world.keys.find(NEW.kid, "ES256")
    for _ in range(9):
        with pytest.raises(UnknownKey):
            world.keys.find("made-up", "ES256")
        world.clock.advance(1)
        await world.turn()
    assert world.issuer.asked == 2
    world.clock.advance(1)
    await world.settled(asked=3)


@pytest.mark.parametrize(
    "failure",
    [
        Unavailable("refused"),
        OSError("no route"),
        TimeoutError(),
        b"",
        b"<html>",
        b'{"keys":[]}',
        b'{"keys":[{"kty":"oct","k":"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE"}]}',
        b" " * (MAX_DOCUMENT + 1),
    ],
    ids=lambda failure: repr(failure)[:20],
)
async def test_keys_at_hand_stay_in_use_when_the_issuer_fails(
    world: World, failure: bytes | Exception
) -> None:
    await world.settled(asked=1)
    world.clock.advance(10)
    await world.turn()
    world.issuer.document = failure
    world.clock.advance(300)
    await world.settled(asked=2)
    assert isinstance(world.facts[-1], KeysNotFetched)
    assert world.keys.find(OLD.kid, "ES256")
    # It is asked again soon, and all is well again.
    world.issuer.document = json.dumps(jwks(NEW)).encode()
    world.clock.advance(0.2)
    await world.settled(asked=3)
    assert world.keys.find(NEW.kid, "ES256")


async def test_an_issuer_that_starts_late_is_found_soon() -> None:
    world = World()
    world.issuer.document = Unavailable("starting")
    async with world.keys:
        await world.settled(asked=1)
        world.clock.advance(0.2)
        await world.settled(asked=2)
        world.issuer.document = json.dumps(jwks(OLD)).encode()
        world.clock.advance(0.4)
        await world.settled(asked=3)
        assert world.keys.find(OLD.kid, "ES256")


async def test_a_verifier_follows_the_keys(world: World) -> None:
    verifier = TokenVerifier(world.keys)
    old = TokenIssuer(OLD, issuer="u", audience="s").issue("ann", NOW)
    await world.settled(asked=1)
    assert verifier.verify(old, NOW).subject == "ann"
    stolen = {**NEW.public(), "kid": OLD.kid}
    world.issuer.document = json.dumps({"keys": [stolen]}).encode()
    world.clock.advance(10)
    await world.turn()
    world.clock.advance(300)
    await world.settled(asked=2)
    with pytest.raises(BadSignature):
        verifier.verify(old, NOW)


def test_spacing_is_not_longer_than_refresh() -> None:
    with pytest.raises(Misconfigured):
        RemoteKeysConfig(refresh=1, spacing=2)
