"""The gateway, interpreted and compiled, beside nginx and FastAPI+httpx2, over one upstream.

Each proxy is one worker on core 0; the upstream (nginx) and wrk are on core 1. Rounds are
interleaved, figures are medians. `cpu_us` is the CPU time of the proxy's process per request, the
sturdiest figure on a machine that others use too; `cpu_of_nginx` is nginx' over it, what
`of_nginx` would be on a quiet machine. nginx writes a JSON access log as we do.

    python -m benchmarks.gateway [seconds of a round] [rounds] [subject...]
"""

import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import psutil

from benchmarks.report import Row, table, versions, write
from hatch_build import can_compile, compiled
from tests.support.servers import free_port

PEERS = Path(__file__).parent / "peers"
CONNECTIONS = 64
COLUMNS = (
    "subject",
    "load",
    "requests_per_s",
    "cpu_us",
    "p50_ms",
    "p99_ms",
    "rss_mb",
    "of_nginx",
    "cpu_of_nginx",
    "errors",
)


class Proxy:
    """A proxy under test, started on core 0."""

    def __init__(self, subject: str, command: list[str], port: int, env: Mapping[str, str]) -> None:
        self.subject = subject
        self.port = port
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", *command], env=dict(env), stdout=subprocess.DEVNULL
        )
        _until_answers(port)
        main = psutil.Process(self.process.pid)
        workers = main.children(recursive=True)
        # nginx works in a child of its own; the others in the process that was started.
        self.worker = workers[0] if workers else main

    def cpu(self) -> float:
        times = self.worker.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> float:
        return float(self.worker.memory_info().rss / 1e6)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def _until_answers(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing answers on port {port}")


def _nginx(template: str, place: Path, port: int, upstream: int = 0) -> list[str]:
    text = (PEERS / template).read_text()
    for word, value in (("PLACE", str(place)), ("PORT", str(port)), ("UPSTREAM", str(upstream))):
        text = text.replace(word, value)
    conf = place / template
    conf.write_text(text)
    return ["nginx", "-e", str(place / "nginx.log"), "-c", str(conf)]


# A subject's command and environment, for its folder, its port and that of the upstream.
Make = Callable[[Path, int, int], tuple[list[str], dict[str, str]]]


def _peer_nginx(place: Path, port: int, upstream: int) -> tuple[list[str], dict[str, str]]:
    return _nginx("proxy.conf", place, port, upstream), {}


def _seawall(place: Path, port: int, upstream: int) -> tuple[list[str], dict[str, str]]:
    peer = [sys.executable, "-m", "benchmarks.peers.seawall_gateway"]
    return [*peer, str(port), str(upstream), str(place / f"access-{port}.log")], {}


def _seawall_compiled(place: Path, port: int, upstream: int) -> tuple[list[str], dict[str, str]]:
    command, _ = _seawall(place, port, upstream)
    return command, {"PYTHONPATH": str(compiled())}


def _fastapi(place: Path, port: int, upstream: int) -> tuple[list[str], dict[str, str]]:
    uvicorn = [sys.executable, "-m", "uvicorn", "--no-access-log", "--log-level", "error"]
    return [*uvicorn, "--port", str(port), "benchmarks.peers.fastapi_proxy:app"], {}


SUBJECTS: Mapping[str, Make] = {
    "nginx": _peer_nginx,
    "seawall-interpreted": _seawall,
    "seawall-compiled": _seawall_compiled,
    "fastapi-httpx2": _fastapi,
}


def measure(proxy: Proxy, load: str, seconds: int) -> dict[str, float]:
    script = ["-s", str(PEERS / "varied.lua")] if load == "varied" else []
    before = proxy.cpu()
    out = subprocess.run(
        [
            *("taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"),
            *("--latency", *script, f"http://127.0.0.1:{proxy.port}/"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    cpu = proxy.cpu() - before
    requests = int(_find(r"(\d+) requests in", out))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    errors = (int(bad[1]) if bad else 0) + (sum(map(int, broken.groups())) if broken else 0)
    return {
        "requests_per_s": float(_find(r"Requests/sec:\s+([\d.]+)", out)),
        "cpu_us": cpu / max(requests, 1) * 1e6,
        "p50_ms": _milliseconds(_find(r"^ +50% +(\S+)", out)),
        "p99_ms": _milliseconds(_find(r"^ +99% +(\S+)", out)),
        "rss_mb": proxy.rss(),
        "errors": float(errors),
    }


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk said something else:\n{text}")
    return found[1]


def _milliseconds(text: str) -> float:
    number, unit = float(text.rstrip("mus")), text.lstrip("0123456789.")
    return number * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def run(seconds: int, rounds: int, subjects: Collection[str]) -> list[Row]:
    place = Path(tempfile.mkdtemp(prefix="seawall-bench-"))
    upstream = free_port()
    env = {"PATH": "/usr/sbin:/usr/bin:/bin", "UPSTREAM": f"http://127.0.0.1:{upstream}"}
    service = subprocess.Popen(
        ["taskset", "-c", "1", *_nginx("upstream.conf", place, upstream)], env=env
    )
    proxies: list[Proxy] = []
    try:
        _until_answers(upstream)
        for subject, make in SUBJECTS.items():
            if subject not in subjects:
                continue
            if subject == "seawall-compiled" and not can_compile():
                print("no C compiler, or no headers of Python: the compiled build is left out")
                continue
            port = free_port()
            command, more = make(place, port, upstream)
            proxies.append(Proxy(subject, command, port, {**env, **more}))
        return _rows(proxies, seconds, rounds)
    finally:
        for proxy in proxies:
            proxy.stop()
        service.terminate()
        service.wait()
        shutil.rmtree(place)


def _rows(proxies: list[Proxy], seconds: int, rounds: int) -> list[Row]:
    rows: list[Row] = []
    for load in ("plain", "varied"):
        taken: dict[str, list[dict[str, float]]] = {proxy.subject: [] for proxy in proxies}
        for _ in range(rounds):
            for proxy in proxies:
                taken[proxy.subject].append(measure(proxy, load, seconds))
        reference = statistics.median(one["requests_per_s"] for one in taken["nginx"])
        nginx_cpu = statistics.median(one["cpu_us"] for one in taken["nginx"])
        for subject, figures in taken.items():
            medians = {key: statistics.median(one[key] for one in figures) for key in figures[0]}
            medians["of_nginx"] = medians["requests_per_s"] / reference
            medians["cpu_of_nginx"] = nginx_cpu / medians["cpu_us"]
            rows.append({"subject": subject, "load": load, "connections": CONNECTIONS, **medians})
    return rows


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    rows = run(seconds, rounds, {"nginx", *sys.argv[3:]} if sys.argv[3:] else SUBJECTS)
    print(table(f"Gateway, {CONNECTIONS} connections, one worker each", COLUMNS, rows))
    used = versions(["seawall", "uvloop", "fastapi", "httpx2", "uvicorn"])
    nginx = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr
    write("gateway", rows, used | {"nginx": nginx.strip().rpartition("/")[2]})


if __name__ == "__main__":
    main()
