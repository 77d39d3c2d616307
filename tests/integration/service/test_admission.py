"""More than a service can do: who is served, who is told to come later, and when it is over."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.process import ServiceProcess
from tests.support.waiting import eventually_async

SOURCE = """
import asyncio
from seawall import Service

service = Service("till")


async def work() -> str:
    await asyncio.sleep(0.05)
    return "done"


service.get("/pay")(work)
service.get("/look")(work)
service.get("/report")(work)
"""

ADMISSION = """{"kind": "fixed", "initial": 4, "minimum": 1, "wait": 0.3, "queue": 20,
"critical": ["/pay"], "sheddable": ["/report"]}"""


@pytest.fixture
def till(tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path, SOURCE, {"SEAWALL_ADMISSION": ADMISSION}).start() as process:
        yield process


async def asking(client: httpx2.AsyncClient, path: str, until: asyncio.Event) -> Counter[int]:
    """Ask again and again; who is refused asks at once, which no good client does."""
    seen: Counter[int] = Counter()
    while not until.is_set():
        answer = await client.get(path)
        seen[answer.status_code] += 1
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["retryable"] is True
    return seen


async def test_in_an_overload_the_important_are_served_and_the_others_refused(
    till: ServiceProcess,
) -> None:
    limits = httpx2.Limits(max_connections=60)
    async with httpx2.AsyncClient(base_url=till.url, timeout=20, limits=limits) as client:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            reports = [tasks.create_task(asking(client, "/report", over)) for _ in range(8)]
            looks = [tasks.create_task(asking(client, "/look", over)) for _ in range(12)]
            paid = [(await client.get("/pay")).status_code for _ in range(30)]
            over.set()
        assert Counter(paid) == {200: 30}
        shed = sum((task.result() for task in reports), Counter[int]())
        looked = sum((task.result() for task in looks), Counter[int]())
        assert shed[503] > shed[200] > 0  # its share, and hardly more
        assert set(looked) <= {200, 503}
        assert looked[200] > shed[200]

        # It is over at once, and what was refused is counted as offered.
        assert [(await client.get("/report")).status_code for _ in range(3)] == [200] * 3
        told = (await client.get("/metrics")).text
        served = sum(
            float(line.split()[-1])
            for line in told.splitlines()
            if line.startswith("http_server_request_duration_seconds_count")
        )
        refused = shed[503] + looked[503]
        assert served == 30 + shed.total() + looked.total() + 3
        assert f'seawall_load_shed_total{{reason="admission",service="till"}} {refused}.0' in told
        assert "till has more to do than it can: 4 requests at once" in till.output


async def test_who_leaves_while_waiting_leaves_its_place_to_others(till: ServiceProcess) -> None:
    async with httpx2.AsyncClient(base_url=till.url, timeout=20) as client:
        hasty = [asyncio.wait_for(client.get("/look"), 0.02) for _ in range(20)]
        await asyncio.gather(*hasty, return_exceptions=True)

        async def at_rest() -> bool:
            told = (await client.get("/metrics")).text
            names = ("in_flight", "waiting")
            return all(f'seawall_admission_{name}{{service="till"}} 0.0' in told for name in names)

        await eventually_async(at_rest)
        assert (await client.get("/look")).status_code == 200
