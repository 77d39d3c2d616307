"""Ten times more than cores can do: what is still done, for whom, and when it is over.

Each request burns some 10 to 20 ms of CPU, so more processes would not help. What two replicas do
at most is calibrated, by as many clients as keep them busy; then ten times as much comes, open
loop, and gateway and service both let in what they find can be done. It is calibrated once more,
since a shared machine changes, and what was done is told of the better one. Critical requests are
40 % of that, the rest is normal and sheddable by halves. Who asks and the gateway share the cores,
so each build of it is measured: what refusals cost, handlers lack.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from random import Random

from benchmarks.report import Row
from benchmarks.scaling.running import Project, ask, running
from hatch_build import can_compile, compiled
from seawall.load.report import Sample, quantile, summarize
from seawall.load.schedule import Phase, arrivals
from seawall.topology import Address

SOURCE = """
from seawall import Service

service = Service("works")


async def work() -> int:
    return sum(number * number for number in range(300_000))


for path in ("/critical", "/normal", "/sheddable"):
    service.get(path)(work)
"""

ADMISSION = """
[services.works.admission]
kind = "{kind}"
initial = 4
minimum = 2
maximum = 20
critical = ["/critical"]
sheddable = ["/sheddable"]
[gateway.upstreams.works.adaptive]
kind = "{kind}"
"""

DECLARED = """
[services.works]
module = "works:service"
replicas = 2
{admission}
[[gateway.routes]]
path = "/critical"
service = "works"
priority = "critical"
[[gateway.routes]]
path = "/normal"
service = "works"
[[gateway.routes]]
path = "/sheddable"
service = "works"
priority = "sheddable"
"""

BUILDS = ("compiled", "interpreted")

KINDS = ("none", "gradient2", "vegas", "aimd", "fixed")

CLIENTS = 4  # keep two replicas busy

FACTOR = 10.0

CRITICAL = 0.4  # of what can be done


def measure(seconds: float, kinds: tuple[str, ...] = KINDS) -> list[Row]:
    builds = BUILDS if can_compile() else BUILDS[1:]
    return [asyncio.run(_measured(kind, build, seconds)) for build in builds for kind in kinds]


async def _measured(kind: str, build: str, seconds: float) -> Row:
    admission = "" if kind == "none" else ADMISSION.format(kind=kind)
    env = {"PYTHONPATH": str(compiled())} if build == "compiled" else {}
    with running("works", SOURCE, DECLARED.format(admission=admission), env) as project:
        address = project.gateway
        most = await _most(address, seconds / 4)
        times = arrivals([Phase(most * FACTOR, seconds)], Random(1))
        path_of = _paths(Random(2))
        samples = await ask(address, times, path_of)
        back = await _back(project, address)
        most = max(most, await _most(address, seconds / 4))
    in_time = [s for s in samples if s.ok and s.ended <= seconds]
    critical = [sample for sample in samples if sample.kind == "/critical"]
    seen = Counter(sample.detail or "200" for sample in samples)
    refused = sorted(s.latency for s in samples if s.detail == "503")
    return {
        "gateway": build,
        "admission": kind,
        "most/s": most,
        "offered/s": len(samples) / seconds,
        "goodput_%": 100 * len(in_time) / seconds / most,
        "critical_%": 100 * sum(sample.ok for sample in critical) / max(1, len(critical)),
        "p99_s": summarize(samples).p99,
        "503_p99_s": quantile(refused, 0.99),
        "other": sum(seen.values()) - seen["200"] - seen["503"],
        "back_s": back,
        "lag_p99_s": summarize(samples).lag_p99,
    }


async def _most(address: Address, seconds: float) -> float:
    """Requests a second that are done by clients who wait for each other."""
    done, until = 0, time.monotonic() + seconds

    async def client() -> None:
        nonlocal done
        while time.monotonic() < until:
            (sample,) = await ask(address, [0.0], lambda number: "/critical")
            done += sample.ok

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            tasks.create_task(client())
    return done / seconds


def _paths(rng: Random) -> Callable[[int], str]:
    """Of each number always the same one."""
    drawn: dict[int, str] = {}

    def path_of(number: int) -> str:
        if number not in drawn:
            is_critical = rng.random() < CRITICAL / FACTOR
            drawn[number] = "/critical" if is_critical else rng.choice(("/normal", "/sheddable"))
        return drawn[number]

    return path_of


async def _back(project: Project, address: Address) -> float:
    """Seconds until ten requests in a row are answered as if nothing had been."""
    began, in_a_row = time.monotonic(), 0
    while in_a_row < 10 and time.monotonic() - began < 30:
        samples: list[Sample] = await ask(address, [0.0], lambda number: "/normal")
        in_a_row = in_a_row + 1 if samples[0].ok and samples[0].latency < 0.2 else 0
    return time.monotonic() - began
