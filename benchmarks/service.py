"""What `Service` costs: requests per second beside bare FastAPI on the same uvicorn.

Both serve the same three routes. One server at a time, pinned to one core; wrk on another;
rounds are interleaved, and the figures are medians.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

from benchmarks.report import Row, machine, table, versions, write

ROUNDS = 5
SECONDS = 2
CONNECTIONS = 64

APPS = """
from fastapi import FastAPI
from pydantic import BaseModel

class Item(BaseModel):
    sku: str
    name: str
    price: int
    tags: list[str]

ITEM = Item(sku="tea", name="Green tea", price=450, tags=["drink", "green", "hot"])

def routes(app):
    @app.get("/hello")
    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/items/{sku}")
    async def item(sku: str, q: int = 0) -> Item:
        return ITEM

    @app.post("/items")
    async def create(item: Item) -> Item:
        return item
    return app

bare = routes(FastAPI())
"""

SERVICE = (
    APPS
    + """
from seawall import Service
service = routes(Service("bench"))
"""
)

POST = """
wrk.method = "POST"
wrk.body = '{"sku":"tea","name":"Green tea","price":450,"tags":["drink","green","hot"]}'
wrk.headers["content-type"] = "application/json"
"""

LOADS = {
    "get /hello": ("/hello", False),
    "get /items/{sku}?q=": ("/items/tea?q=3", False),
    "post /items": ("/items", True),
}

BARE = """
import socket, uvicorn
from apps import bare
uvicorn.run(bare, port=PORT, loop="uvloop", http="httptools", access_log=False, log_level="error")
"""
SEAWALL = """
import sys
from seawall.service.serve import serve
sys.exit(serve("apps:service"))
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _server(program: str, folder: str) -> Iterator[tuple[int, psutil.Process]]:
    port = _free_port()
    env = {**os.environ, "PORT": str(port), "SEAWALL_PROPAGATION_SECONDS": "0"}
    process = subprocess.Popen(
        ["taskset", "-c", "0", sys.executable, "-c", program.replace("PORT", str(port))],
        cwd=folder,
        env={**env, "PYTHONPATH": folder},
        stdout=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield port, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _wrk(url: str, script: str | None) -> tuple[float, float, float]:
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", "--latency"]
    if script:
        command += ["-s", script]
    text = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text:
        raise RuntimeError(text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    p50, p99 = (re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", text) for p in ("50", "99"))
    assert rate is not None
    assert p50 is not None
    assert p99 is not None
    unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    return (float(rate[1]), float(p50[1]) * unit[p50[2]], float(p99[1]) * unit[p99[2]])


def _measure(program: str, folder: str) -> dict[str, tuple[float, float, float, float, float]]:
    found = {}
    with _server(program, folder) as (port, process):
        for load, (path, post) in LOADS.items():
            script = str(Path(folder) / "post.lua") if post else None
            before = process.cpu_times()
            rate, p50, p99 = _wrk(f"http://127.0.0.1:{port}{path}", script)
            after = process.cpu_times()
            cpu = after.user + after.system - before.user - before.system
            rss = process.memory_info().rss / 2**20
            found[load] = (rate, cpu / (rate * SECONDS) * 1e6, p50, p99, rss)
    return found


def main() -> None:
    subjects = {"fastapi": BARE, "seawall-service": SEAWALL}
    results: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "apps.py").write_text(SERVICE)
        Path(folder, "post.lua").write_text(POST)
        for _ in range(ROUNDS):
            for subject, program in subjects.items():
                for load, figures in _measure(program, folder).items():
                    results.setdefault((subject, load), []).append(figures)
    rows: list[Row] = []
    for load in LOADS:
        bare = median(figures[0] for figures in results["fastapi", load])
        for subject in subjects:
            runs = results[subject, load]
            rate, cpu, p50, p99, rss = (median(column) for column in zip(*runs, strict=True))
            rows.append(
                {
                    "subject": subject,
                    "load": load,
                    "requests_per_s": rate,
                    "of_fastapi": rate / bare,
                    "cpu_us": cpu,
                    "p50_ms": p50,
                    "p99_ms": p99,
                    "rss_mb": rss,
                }
            )
    columns = ["subject", "load", "requests_per_s", "of_fastapi", "cpu_us"]
    columns += ["p50_ms", "p99_ms", "rss_mb"]
    title = f"service, {CONNECTIONS} connections, medians of {ROUNDS} on {machine()['cpu']}"
    print(table(title, columns, rows))
    used = versions(["seawall", "fastapi", "starlette", "uvicorn", "uvloop", "httptools"])
    print(f"written to {write('service', rows, used)}")


if __name__ == "__main__":
    main()
