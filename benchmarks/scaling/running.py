"""A project that really runs, and those who ask it: open loop, each request at its time."""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from seawall.cli.admin import Admin
from seawall.clock import SYSTEM
from seawall.errors import SeawallError
from seawall.load.generator import Attempted, Generator
from seawall.load.report import Sample
from seawall.runtime.layout import Layout
from seawall.topology import Address
from seawall.transport.http1 import request_head
from seawall.transport.pool import Pool, PoolConfig

SEAWALL = [sys.executable, "-m", "seawall.cli"]

WITHIN = 10.0  # seconds that an answer may take


class Project:
    """What runs in a folder of its own."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder, self._env = folder, {**os.environ, **env}

    def seawall(self, *arguments: str) -> str:
        done = subprocess.run(
            [*SEAWALL, *arguments],
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def told(self, question: str) -> dict[str, Any]:
        """What the admin API says; waits for it."""
        return Admin(Layout(self._folder)).get(question)

    def ready(self, service: str) -> int:
        """How many of its replicas answer; it scales by itself."""
        return int(self.told(f"/v1/scale/explain?name={service}&n=1")["ready"])

    @property
    def gateway(self) -> Address:
        at = urlsplit(self.told("/v1/status")["url"])
        return Address(at.hostname or "", at.port or 0)


@contextmanager
def running(
    module: str, source: str, declared: str, env: Mapping[str, str] = {}
) -> Iterator[Project]:
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as name:
        folder = Path(name)
        (folder / f"{module}.py").write_text(source)
        (folder / "seawall.toml").write_text("[gateway]\nport = 0\n" + declared)
        project = Project(folder, env)
        project.seawall("up", "--detach", "--wait")
        try:
            yield project
        finally:
            project.seawall("down")


def ask(
    address: Address, times: Sequence[float], path_of: Callable[[int], str]
) -> "asyncio.Task[list[Sample]]":
    """Ask at these times; a sample's `kind` is the path, its `detail` the status."""
    pool = Pool(address, PoolConfig(limit=1000), clock=SYSTEM)
    paths = {path_of(number) for number in range(len(times))}
    heads = {path: request_head("GET", path, str(address), (), None) for path in paths}

    async def act(number: int) -> Attempted:
        path = path_of(number)
        try:
            answer = await pool.exchange(heads[path], b"", within=WITHIN, method="GET")
        except SeawallError as failure:
            return Attempted(path, False, False, detail=type(failure).__name__)
        ok = answer.status == 200
        return Attempted(path, ok, ok, detail=str(answer.status))

    async def work() -> list[Sample]:
        try:
            return await Generator(times, act).run()
        finally:
            pool.close()

    return asyncio.create_task(work())
