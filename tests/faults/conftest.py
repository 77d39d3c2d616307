"""A project of one small service behind a gateway, with the embedded Valkey, under `seawall up`."""

import itertools
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.runtime.conftest import Project
from tests.support.waiting import eventually_sync

# A note posted is a job confirmed; a note done is a row. Some notes are hard to digest.
SOURCE = """
import os

from pydantic import BaseModel
from sqlalchemy import Column, MetaData, String, Table, insert, select

from seawall import Service, Transaction
from seawall.messaging.consumer import ConsumerConfig
from seawall.messaging.policy import RetryPolicy

metadata = MetaData()
DONE = Table("done", metadata, Column("id", String, primary_key=True))

service = Service("notes", version="1.0.0")
database = service.database(metadata=metadata)


class Note(BaseModel):
    id: str
    kind: str = "good"


@service.get("/hello")
async def hello() -> str:
    return "hello"


@service.post("/notes", status_code=202)
async def post(note: Note) -> None:
    await service.send("notes", note)


@service.post("/rows", status_code=201)
async def row(note: Note) -> None:
    async with database.transaction() as tx:
        await tx.execute(insert(DONE).values(id=note.id))


@service.get("/done")
async def done() -> list[str]:
    async with database.read() as tx:
        return list(await tx.scalars(select(DONE.c.id)))


RETRY = RetryPolicy(attempts=3, base=0.02, cap=0.05)


@service.worker("notes", retry=RETRY, config=ConsumerConfig(lease=1.0))
async def work(note: Note, tx: Transaction) -> None:
    if note.kind == "bad":
        raise ValueError("this note cannot be digested")
    if note.kind == "deadly":
        os._exit(9)
    await tx.execute(insert(DONE).values(id=note.id))
"""

DECLARED = """
[services.notes]
module = "notes:service"
replicas = 2
drain = 1.0

[gateway.auth.people]
kind = "jwt"
secret = "a secret of thirty-two characters"
algorithms = ["HS256"]

[[gateway.routes]]
path = "/private"
service = "notes"
auth = "people"

[[gateway.routes]]
path = "/"
service = "notes"
"""


class Notes:
    """The running project, and a customer of it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        project.write("notes.py", SOURCE)
        project.declare(DECLARED, gateways=1, registry="")
        project.up()
        self.url = str(project.status()["url"])
        self.http = httpx2.Client(base_url=self.url, timeout=10.0)
        self.confirmed: set[str] = set()
        self._names = itertools.count()

    @property
    def messages_url(self) -> str:
        return f"unix://{self.project.folder}/.seawall/run/valkey.sock?db=0"

    def pid(self, instance: str) -> int:
        return int(self.project.instances()[instance]["pid"])

    def kill(self, instance: str) -> None:
        """kill -9; return when another process has its place and is ready."""
        before = self.pid(instance)
        os.kill(before, signal.SIGKILL)

        def replaced() -> bool:
            row = self.project.instances()[instance]
            return row["state"] == "ready" and row["pid"] != before

        eventually_sync(replaced, within=15)

    def post(self, kind: str = "good") -> httpx2.Response:
        """Post a note, and remember it if it was taken."""
        name = f"{kind}-{next(self._names)}"
        answer = self.http.post("/notes", json={"id": name, "kind": kind})
        if answer.status_code == 202 and kind == "good":
            self.confirmed.add(name)
        return answer

    def add_row(self) -> httpx2.Response:
        return self.http.post("/rows", json={"id": f"row-{next(self._names)}"})

    def done(self) -> set[str]:
        return set(self.http.get("/done").json())

    def lost(self) -> set[str]:
        """Notes that were taken and are not done; they have as long as restarts may take."""
        try:
            eventually_sync(lambda: self.confirmed <= self.done(), within=30)
        except TimeoutError:
            return self.confirmed - self.done()
        return set()

    @contextmanager
    def load(self) -> Iterator["Load"]:
        """Customers who read and post without a pause for as long as the block runs."""
        stop, load = threading.Event(), Load()

        def customer() -> None:
            while not stop.is_set():
                try:
                    load.reads[self.http.get("/hello").status_code] += 1
                    load.posts[self.post().status_code] += 1
                except httpx2.TransportError:  # its process died in the midst of an answer
                    load.broken += 1

        customers = [threading.Thread(target=customer) for _ in range(4)]
        for each in customers:
            each.start()
        try:
            yield load
        finally:
            stop.set()
            for each in customers:
                each.join()


class Load:
    """How many answers of each status there were."""

    def __init__(self) -> None:
        self.reads: Counter[int] = Counter()
        self.posts: Counter[int] = Counter()
        self.broken = 0


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    os.environ.pop("SEAWALL_PROFILE", None)
    made = Project(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def notes(project: Project) -> Iterator[Notes]:
    running = Notes(project)
    yield running
    running.http.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """`.seawall/` on a disk of its own of 16 MB."""
    folder = tmp_path / ".seawall"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"only root can make a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def problem(answer: httpx2.Response) -> dict[str, Any]:
    """What an error says, as everybody here says it."""
    assert answer.headers["content-type"].startswith("application/problem+json"), answer.text
    return dict(json.loads(answer.text))
