"""Certificates of what runs, on a clock that a test moves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured
from seawall.identity.credentials import Policy
from seawall.identity.workload import WorkloadId
from seawall.runtime.identities import Identities, RenewalFailed, routed
from seawall.runtime.layout import Layout
from seawall.runtime.process import Exit
from seawall.runtime.replica import Place, ReplicaStopped
from seawall.spec.project import Spec
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually

SPEC = Spec.model_validate(
    {
        "project": {"name": "shop"},
        "identity": {"mtls": True, "trust_domain": "shop.test", "certificate_lifetime": 1000},
        "gateway": {
            "auth": {"customers": {"jwks": "service:users/jwks.json"}},
            "routes": [{"path": "/orders", "service": "orders"}],
        },
        "services": {
            "users": {"module": "shop.users:service"},
            "orders": {"module": "shop.orders:service", "needs": ["inventory", "mailbox"]},
            "inventory": {"module": "shop.inventory:service"},
            "mailbox": {"command": ["mailbox"], "mtls": False},
        },
    }
)
ORDERS = Place(service="orders", instance_id="orders-1")


def ids(*services: str) -> frozenset[WorkloadId]:
    return frozenset(WorkloadId("shop", service, "shop.test") for service in services)


class Kept:
    """Identities of a project in a folder; `facts` are what they told."""

    def __init__(self, path: Path, spec: Spec = SPEC) -> None:
        self.clock = ManualClock()
        self.facts: list[object] = []
        self.layout = Layout(path)
        self.identities = Identities(
            spec, self.layout, observer=self.facts.append, clock=self.clock
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Kept"]:
        await self.identities.open()
        async with Tasks() as tasks:
            tasks.start(self.identities.keep())
            await eventually(lambda: self.clock.sleeping > 0)
            yield self

    async def pass_(self, seconds: float) -> None:
        """Let so much time pass, and what is due be done."""
        self.clock.advance(seconds)
        await eventually(lambda: self.clock.sleeping > 0)


async def read(path: Path) -> bytes:
    return await asyncio.to_thread(path.read_bytes)


async def exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)


async def test_who_runs_gets_a_new_certificate_at_half_of_its_life(tmp_path: Path) -> None:
    async with Kept(tmp_path).open() as kept:
        folder = Path((await kept.identities.issue(ORDERS, "a"))["SEAWALL_TLS"])
        first, key = await read(folder / "tls.crt"), await read(folder / "tls.key")
        await kept.pass_(490)
        assert await read(folder / "tls.crt") == first
        await kept.pass_(30)
        assert await read(folder / "tls.crt") != first
        assert await read(folder / "tls.key") != key


async def test_a_laptop_that_slept_renews_at_once(tmp_path: Path) -> None:
    async with Kept(tmp_path).open() as kept:
        folder = Path((await kept.identities.issue(ORDERS, "a"))["SEAWALL_TLS"])
        first = await read(folder / "tls.crt")
        await kept.pass_(50_000)
        assert await read(folder / "tls.crt") != first


async def test_what_belonged_to_an_ended_process_goes_and_its_successors_stays(
    tmp_path: Path,
) -> None:
    async with Kept(tmp_path).open() as kept:
        before = Path((await kept.identities.issue(ORDERS, "a"))["SEAWALL_TLS"])
        after = Path((await kept.identities.issue(ORDERS, "b"))["SEAWALL_TLS"])
        kept.identities(ReplicaStopped(ORDERS, "a", Exit(0), 0.0))
        await kept.pass_(30)
        assert not await exists(before)
        assert await exists(after)
        first = await read(after / "tls.crt")
        await kept.pass_(600)
        assert not await exists(before)
        assert await read(after / "tls.crt") != first


async def test_what_cannot_be_written_is_told_and_tried_again(tmp_path: Path) -> None:
    async with Kept(tmp_path).open() as kept:
        folder = Path((await kept.identities.issue(ORDERS, "a"))["SEAWALL_TLS"])
        aside = tmp_path / "aside"
        await asyncio.to_thread(folder.rename, aside)
        await asyncio.to_thread(folder.write_text, "a file where the folder was")
        await kept.pass_(550)
        failed = [fact.name for fact in kept.facts if isinstance(fact, RenewalFailed)]
        assert failed == ["orders-1.a"]
        await asyncio.to_thread(folder.unlink)
        await kept.pass_(30)
        assert await exists(folder / "tls.crt")


async def test_the_authority_stays_over_runs(tmp_path: Path) -> None:
    trusted = set()
    for _ in range(2):
        async with Kept(tmp_path).open() as kept:
            folder = Path((await kept.identities.issue(ORDERS, "a"))["SEAWALL_TLS"])
            trusted.add(await read(folder / "ca.crt"))
    assert len(trusted) == 1


async def test_an_authority_that_others_can_read_is_refused(tmp_path: Path) -> None:
    async with Kept(tmp_path).open() as kept:
        pass
    await asyncio.to_thread(kept.layout.authority.chmod, 0o644)
    with pytest.raises(Misconfigured, match="can be read by others"):
        await Kept(tmp_path).identities.open()


async def test_nobody_else_is_called_supervisor(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"services": {"supervisor": SPEC.services["orders"]}})
    with pytest.raises(Misconfigured, match="cannot be called 'supervisor'"):
        await Kept(tmp_path, spec).identities.open()


def test_who_may_call_follows_from_needs_and_routes(tmp_path: Path) -> None:
    policy = Kept(tmp_path).identities.policy
    assert policy("inventory").callers == ids("orders", "supervisor")
    assert policy("orders").callers == ids("gateway", "supervisor")
    assert policy("users").callers == ids("gateway", "supervisor")  # it signs the tokens
    assert policy("orders").plain == {"mailbox"}
    assert policy("orders").serves
    assert not policy("mailbox").serves


async def test_the_supervisor_asks_as_services_want_it(tmp_path: Path) -> None:
    async with Kept(tmp_path).open() as kept:
        assert kept.identities.towards("orders") is not None
        assert kept.identities.towards("mailbox") is None


async def test_a_new_route_lets_the_gateway_in_before_it_is_used(tmp_path: Path) -> None:
    more = {**SPEC.model_dump(mode="python")}
    more["gateway"]["routes"] = [{"path": "/stock", "service": "inventory"}]
    other = Spec.model_validate(more)
    assert routed(other) == {"inventory", "users"}
    place = Place(service="inventory", instance_id="inventory-1")
    async with Kept(tmp_path).open() as kept, Tasks() as tasks:
        folder = Path((await kept.identities.issue(place, "a"))["SEAWALL_TLS"])
        rerouting = tasks.start(kept.identities.reroute(other))
        await eventually(lambda: kept.clock.sleeping > 1)
        policy = Policy.parse(await read(folder / "policy.json"))
        assert policy.callers == ids("orders", "gateway", "supervisor")
        assert not rerouting.done()
        kept.clock.advance(3.0)
        await rerouting
        await kept.identities.reroute(other)  # nothing new, and nothing to wait for


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"callers": [1], "plain": []}'])
def test_a_policy_that_is_none_is_said_to_be_none(text: bytes) -> None:
    with pytest.raises(Misconfigured, match=r"policy\.json"):
        Policy.parse(text)


def test_a_policy_comes_back_as_it_was_written(tmp_path: Path) -> None:
    policy = Kept(tmp_path).identities.policy("orders")
    assert Policy.parse(policy.to_json()) == policy
