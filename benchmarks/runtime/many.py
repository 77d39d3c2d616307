"""What the supervisor itself costs while it keeps many replicas that have nothing to do."""

import time
from pathlib import Path

import psutil

from benchmarks.report import Row
from benchmarks.runtime.project import running
from benchmarks.runtime.starts import declared
from seawall.runtime.cost import fair_share

# Probes come every five seconds: a shorter look would see some of them twice and some not at all.
_PERIOD = 5.0  # seconds


def many(folder: Path, replicas: int, periods: int) -> list[Row]:
    """CPU and memory of the supervisor's process, and of the parents that it forks from."""
    with running(folder / "many", declared(replicas)) as project:
        project.until_ready("hello", replicas)
        time.sleep(_PERIOD)  # what the start left is done
        supervisor = psutil.Process(project.pid)
        below = supervisor.children(recursive=True)
        named = {each: each.name() for each in below}
        parents = [each for each, name in named.items() if not name[-1].isdigit()]
        before, began = _cpu(supervisor), time.perf_counter()
        time.sleep(periods * _PERIOD)
        share = (_cpu(supervisor) - before) / (time.perf_counter() - began)
        replicas_pss = sum(fair_share(each) for each in below if each not in parents)
        return [
            {
                "subject": "seawall",
                "load": f"{replicas} replicas",
                "supervisor_cpu_pct": 100 * share,
                "supervisor_rss_mb": supervisor.memory_info().rss / 2**20,
                "supervisor_pss_mb": fair_share(supervisor) / 2**20,
                "each_replica_pss_mb": replicas_pss / replicas / 2**20,
            }
        ]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
