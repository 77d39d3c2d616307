"""Ten times the load at once, on replicas that wait rather than work: when is there enough?

A request waits for 100 ms and eight fit into a replica at once, so one bears 80 a second and is to
have 50. Cores have nothing to do with it: more processes do help. What comes before they are there
may wait for half a second, as it may without a word, or for two. Runs in which the generator was
late say nothing, and are counted as void.
"""

import asyncio
import time
from random import Random
from typing import Any

from benchmarks.report import Row
from benchmarks.scaling.running import Project, ask, running
from seawall.load.report import quantile, summarize
from seawall.load.schedule import Phase, arrivals

SOURCE = """
import asyncio
from seawall import Service

service = Service("waits")


@service.get("/")
async def wait() -> str:
    await asyncio.sleep(0.1)
    return "done"
"""

BASE, FACTOR, EACH, MOST = 30.0, 10.0, 50, 10

WAITS = (0.5, 2.0)  # seconds that a request may wait for its turn

DECLARED = f"""
[services.waits]
module = "waits:service"
replicas = {{{{ min = 1, max = {MOST} }}}}
[services.waits.admission]
kind = "fixed"
initial = 8
minimum = 8
queue = 300
wait = {{wait}}
[[services.waits.scale]]
target = {EACH}
window = 3.0
[[gateway.routes]]
path = "/"
service = "waits"
"""

NEEDED = round(BASE * FACTOR / EACH)  # replicas

CALM, SPIKE = 3.0, 5.0  # seconds


def measure(runs: int) -> list[Row]:
    """Seconds from the step until there were enough replicas, and what was shed meanwhile."""
    return [asyncio.run(_measured(runs, wait)) for wait in WAITS]


async def _measured(runs: int, wait: float) -> Row:
    with running("waits", SOURCE, DECLARED.format(wait=wait)) as project:
        told = [await _run(project, Random(number)) for number in range(runs)]
    valid = [each for each in told if not each["void"]]
    reached = sorted(each["seconds"] for each in valid)
    offered = sum(each["offered"] for each in valid)
    return {
        "runs": runs,
        "void": runs - len(valid),
        "replicas": f"1 -> {NEEDED}",
        "wait_s": wait,
        "p50_s": quantile(reached, 0.5),
        "p99_s": quantile(reached, 0.99),
        "decided_p99_s": quantile(sorted(each["decided"] for each in valid), 0.99),
        "requests": round(offered),
        "shed_%": 100 * sum(each["shed"] for each in valid) / max(1.0, offered),
        "answered_p99_s": quantile(sorted(t for each in valid for t in each["took"]), 0.99),
        "failed": round(sum(each["failed"] for each in valid)),
    }


async def _run(project: Project, rng: Random) -> dict[str, Any]:
    await asyncio.to_thread(project.seawall, "scale", "waits=1")
    await asyncio.to_thread(project.seawall, "scale", "waits=auto")
    times = arrivals([Phase(BASE, CALM), Phase(BASE * FACTOR, SPIKE)], rng)
    address = await asyncio.to_thread(lambda: project.gateway)
    began, samples = time.time(), ask(address, times, lambda number: "/")
    await asyncio.sleep(CALM)
    step, reached = began + CALM, SPIKE
    while time.time() < step + SPIKE:
        if await asyncio.to_thread(project.ready, "waits") >= NEEDED:
            reached = time.time() - step
            break
        await asyncio.sleep(0.03)
    done = await samples
    return {
        "seconds": reached,
        "decided": await asyncio.to_thread(_decided, project, step),
        "offered": len(done),
        "shed": sum(sample.detail == "503" for sample in done),
        "failed": sum(not sample.ok and sample.detail != "503" for sample in done),
        "took": [sample.latency for sample in done if sample.ok],
        "void": summarize(done).void,
    }


def _decided(project: Project, step: float) -> float:
    """Seconds from the step until somebody decided upon enough replicas."""
    changes = project.told("/v1/scale/explain?name=waits&n=20")["changes"]
    enough = (c["at"] for c in changes if c["at"] >= step and c["desired"] >= NEEDED)
    return next(enough, step + SPIKE) - step
