"""What `seawall.gateway.ledger.Ledger` promises, for every implementation."""

from collections.abc import AsyncIterator
from random import Random

import pytest

from seawall.errors import Unavailable
from seawall.gateway.ledger import Claim, Grant, Ledger, MemoryLedger
from seawall.gateway.ledger_valkey import ValkeyLedger
from tests.support.servers import RespServer, free_port
from tests.support.waiting import eventually_async

LONG = 60.0  # seconds; no lease ends by itself in a test that does not say so


@pytest.fixture(params=["memory", "valkey", "redis"])
async def ledger(request: pytest.FixtureRequest, unique: str) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        found: Ledger = MemoryLedger()
    else:
        server: RespServer = request.getfixturevalue(request.param)
        found = ValkeyLedger(server.url, namespace=unique)
    yield found
    await found.aclose()
    await found.aclose()


async def share(
    ledger: Ledger, process: str, demand: float, *, rate: float = 100.0, lease: float = LONG
) -> float:
    grant = await ledger.claim(process, [Claim("route", rate, demand)], lease)
    return grant.shares[0]


async def test_who_is_alone_has_everything(ledger: Ledger) -> None:
    assert await share(ledger, "a", 0.0) == 100.0
    assert await share(ledger, "a", 1e6) == 100.0


async def test_shares_are_in_proportion_to_demand_once_others_let_go(ledger: Ledger) -> None:
    assert await share(ledger, "a", 60.0) == 100.0
    assert await share(ledger, "b", 20.0) == 0.0
    assert await share(ledger, "a", 60.0) == pytest.approx(75.0)
    assert await share(ledger, "b", 20.0) == pytest.approx(25.0)


async def test_claims_of_one_call_are_answered_in_their_order(ledger: Ledger) -> None:
    claims = [Claim(f"limit-{n}", float(n + 1), 1.0) for n in range(300)]
    grant = await ledger.claim("a", claims, LONG)
    assert grant.shares == pytest.approx([n + 1.0 for n in range(300)])
    assert await ledger.claim("a", [], LONG) == Grant(1, ())


async def test_processes_are_counted(ledger: Ledger) -> None:
    assert (await ledger.claim("a", [], LONG)).processes == 1
    assert (await ledger.claim("b", [], LONG)).processes == 2
    assert (await ledger.claim("a", [], LONG)).processes == 2
    await ledger.leave("b")
    await ledger.leave("nobody")
    assert (await ledger.claim("a", [], LONG)).processes == 1


async def test_a_process_that_falls_silent_loses_its_share_with_its_lease(ledger: Ledger) -> None:
    assert await share(ledger, "dead", 10.0, lease=0.2) == 100.0
    assert await share(ledger, "b", 10.0) < 100.0

    async def all_is_free() -> bool:
        grant = await ledger.claim("b", [Claim("route", 100.0, 10.0)], LONG)
        return grant == Grant(1, (100.0,))

    await eventually_async(all_is_free)


async def test_a_limit_that_was_lowered_is_not_overdrawn(ledger: Ledger) -> None:
    assert await share(ledger, "a", 10.0, rate=100.0) == 100.0
    assert await share(ledger, "b", 10.0, rate=10.0) == 0.0


async def test_all_implementations_divide_alike(ledger: Ledger) -> None:
    """The script and the arithmetic are two texts of one rule."""
    rng, reference = Random(7), MemoryLedger()
    held: dict[str, float] = {}
    for _ in range(300):
        process = rng.choice("abcde")
        claim = Claim("route", 7.3, rng.choice([0.0, rng.uniform(0, 1), rng.uniform(0, 50)]))
        found = await ledger.claim(process, [claim], LONG)
        expected = await reference.claim(process, [claim], LONG)
        assert found.processes == expected.processes
        assert found.shares == pytest.approx(expected.shares, abs=1e-9)
        held[process] = found.shares[0]
        assert sum(held.values()) <= 7.3 * (1 + 1e-9)


async def test_a_server_that_is_away_is_unavailable(unique: str) -> None:
    ledger = ValkeyLedger(f"redis://127.0.0.1:{free_port()}/0", namespace=unique)
    with pytest.raises(Unavailable):
        await ledger.claim("a", [], LONG)
    with pytest.raises(Unavailable):
        await ledger.leave("a")
    await ledger.aclose()
