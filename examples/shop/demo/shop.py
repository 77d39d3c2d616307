"""The shop as the demo sees it: started by `seawall up`, its processes in reach."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from seawall.clock import SYSTEM
from seawall.identity.mutual import MutualTls
from shop.demo.books import Ledgers
from shop.demo.doors import DemoFailed, Door, Doors

HERE = Path(__file__).parents[1]
SEAWALL = Path(sys.executable).with_name("seawall")

READY_WITHIN = 60.0  # seconds; some 3 are usual


class Shop:
    """A running shop in `folder`."""

    def __init__(self, folder: Path, supervisor: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._supervisor = supervisor

    def ps(self) -> list[dict[str, Any]]:
        return list(json.loads(self._seawall("ps", "--json"))["instances"])

    def scale(self, service: str, replicas: int) -> None:
        self._seawall("scale", f"{service}={replicas}")

    def explained(self, service: str) -> dict[str, Any]:
        """What scaled it, as `seawall scale explain` tells."""
        return dict(json.loads(self._seawall("scale", "explain", service, "-n", "200", "--json")))

    def kill(self, service: str) -> str:
        """kill -9 one replica; return its name."""
        row = next(r for r in self._rows(service) if r["state"] == "ready")
        os.kill(row["pid"], signal.SIGKILL)
        return str(row["instance"])

    def address(self, service: str) -> tuple[str, int]:
        return _address(self._ready(service))

    def door(self, service: str) -> Door:
        """A replica of it, asked as the supervisor where that takes a certificate."""
        row = self._ready(service)
        folder = self.folder / ".seawall" / "identity" / "certificates" / "supervisor"
        return Door(_address(row), MutualTls(folder).client if row["tls"] else None)

    def _rows(self, service: str) -> list[dict[str, Any]]:
        return [row for row in self.ps() if row["service"] == service]

    def _ready(self, service: str) -> dict[str, Any]:
        row = next((r for r in self._rows(service) if r["state"] == "ready"), None)
        if row is None:
            raise DemoFailed(f"no replica of {service} is ready")
        return row

    def _seawall(self, *arguments: str) -> str:
        done = subprocess.run(
            [SEAWALL, "--project", self.folder, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DemoFailed(f"seawall {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def restarts(self) -> int:
        return sum(row["restarts"] for row in self.ps())

    def knows_prices(self) -> bool:
        return Doors(self.door).knows_prices()

    def ledgers(self) -> Ledgers:
        return Doors(self.door).ledgers()

    def memory(self) -> int:
        """Bytes of the whole shop; what processes share is counted once."""
        parent = psutil.Process(self._supervisor.pid)
        total = 0
        for process in (parent, *parent.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:  # it ended in this moment
                continue
        return total


@contextmanager
def running_shop(folder: Path, **environment: str) -> Iterator[Shop]:
    """Start a shop with empty books in `folder`; stop it at the end of the block."""
    shutil.rmtree(folder, ignore_errors=True)
    project = folder / "shop"
    shutil.copytree(HERE, project, ignore=shutil.ignore_patterns(".seawall", "__pycache__"))
    log = folder / "up.log"
    with log.open("wb") as out:
        # The customers share this machine, and are to be on time: the shop yields to them.
        supervisor = subprocess.Popen(
            ["nice", "-n", "5", SEAWALL, "--project", project, "up"],
            stdout=out,
            stderr=out,
            env={**os.environ, "SEAWALL_GATEWAY__PORT": "0", **environment},
        )
    try:
        shop = Shop(project, supervisor)
        _wait_ready(shop, supervisor, log)
        yield shop
    finally:
        supervisor.send_signal(signal.SIGTERM)
        try:
            supervisor.wait(60)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()


def _wait_ready(shop: Shop, supervisor: subprocess.Popen[bytes], log: Path) -> None:
    pause = threading.Event()
    until = SYSTEM.now() + READY_WITHIN
    while SYSTEM.now() < until:
        if supervisor.poll() is not None:
            raise DemoFailed(f"seawall up ended:\n{log.read_text(errors='replace')[-3000:]}")
        try:
            if all(row["state"] == "ready" for row in shop.ps()) and shop.knows_prices():
                return
        except (DemoFailed, OSError):
            pass  # its admin API, or a service, does not listen yet
        pause.wait(0.1)
    raise DemoFailed(
        f"not ready after {READY_WITHIN} s:\n{log.read_text(errors='replace')[-3000:]}"
    )


def _address(row: Mapping[str, Any]) -> tuple[str, int]:
    host, _, port = row["address"].rpartition(":")
    return host, int(port)
