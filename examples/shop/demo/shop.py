"""The shop as the demo sees it: started by `seawall up`, asked through the same doors as anyone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from seawall.clock import SYSTEM
from shop.demo.books import Charge, Ledgers, Order, Reservation, Stock

HERE = Path(__file__).parents[1]
SEAWALL = Path(sys.executable).with_name("seawall")

READY_WITHIN = 60.0  # seconds; some 3 are usual
PAGE = 1000  # ledger lines asked for at once
PASSWORD = "correct horse battery staple"


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class Shop:
    """A running shop in `folder`."""

    def __init__(self, folder: Path, supervisor: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._supervisor = supervisor

    def ps(self) -> list[dict[str, Any]]:
        return list(json.loads(self._seawall("ps", "--json"))["instances"])

    def scale(self, service: str, replicas: int) -> None:
        self._seawall("scale", f"{service}={replicas}")

    def kill(self, service: str) -> str:
        """kill -9 one replica; return its name."""
        row = next(r for r in self._rows(service) if r["state"] == "ready")
        os.kill(row["pid"], signal.SIGKILL)
        return str(row["instance"])

    def address(self, service: str) -> tuple[str, int]:
        row = next((r for r in self._rows(service) if r["state"] == "ready"), None)
        if row is None:
            raise DemoFailed(f"no replica of {service} is ready")
        host, _, port = row["address"].rpartition(":")
        return host, int(port)

    def _rows(self, service: str) -> list[dict[str, Any]]:
        return [row for row in self.ps() if row["service"] == service]

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

    def ledgers(self) -> Ledgers:
        orders = self._pages("orders", "/internal/ledger")
        charges = self._pages("payments", "/internal/ledger")
        reservations = self._pages("inventory", "/internal/reservations")
        return Ledgers(
            orders=[Order(o["order_id"], o["status"], o["cents"]) for o in orders],
            charges=[Charge(c["order_id"], c["cents"], c["taken"], c["returned"]) for c in charges],
            reservations=[
                Reservation(
                    r["order_id"], r["state"], {n["sku"]: n["quantity"] for n in r["lines"]}
                )
                for r in reservations
            ],
            stock=[
                Stock(s["sku"], s["initial"], s["available"])
                for s in get(self.address("inventory"), "/stock")
            ],
            mails=self._mails(),
        )

    def _pages(self, service: str, path: str) -> list[dict[str, Any]]:
        address, found, after = self.address(service), [], ""
        while page := get(address, f"{path}?after={after}&limit={PAGE}"):
            found += page
            after = page[-1]["order_id"]
        return found

    def _mails(self) -> list[str]:
        """The order that each mail is about: its Message-ID is <STATUS.ORDER@shop>."""
        address, found, after = self.address("mailbox"), [], 0
        while page := get(address, f"/mails?after={after}&limit={PAGE}"):
            found += [mail["message_id"].strip("<>").split("@")[0].split(".")[-1] for mail in page]
            after = page[-1]["number"]
        return found


@contextmanager
def running_shop(folder: Path) -> Iterator[Shop]:
    """Start a shop with empty books in `folder`; stop it at the end of the block."""
    shutil.rmtree(folder, ignore_errors=True)
    project = folder / "shop"
    shutil.copytree(HERE, project, ignore=shutil.ignore_patterns(".seawall", "__pycache__"))
    environment = {**os.environ, "SEAWALL_GATEWAY__PORT": "0"}
    log = folder / "up.log"
    with log.open("wb") as out:
        # The customers share this machine, and are to be on time: the shop yields to them.
        supervisor = subprocess.Popen(
            ["nice", "-n", "5", SEAWALL, "--project", project, "up"],
            stdout=out,
            stderr=out,
            env=environment,
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
            if all(row["state"] == "ready" for row in shop.ps()):
                return
        except DemoFailed:
            pass  # its admin API does not listen yet
        pause.wait(0.1)
    raise DemoFailed(
        f"not ready after {READY_WITHIN} s:\n{log.read_text(errors='replace')[-3000:]}"
    )


def get(address: tuple[str, int], path: str) -> Any:
    return call(address, "GET", path)


def call(
    address: tuple[str, int],
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    connection = HTTPConnection(*address, timeout=30)
    try:
        content = None if body is None else json.dumps(body)
        kind = {} if body is None else {"content-type": "application/json"}
        connection.request(method, path, content, {**kind, **headers})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise DemoFailed(f"{method} {path}: {answer.status} {text[:500]!r}")
        return json.loads(text)
    finally:
        connection.close()


def register(gateway: tuple[str, int], count: int) -> list[str]:
    """Register and log in `count` customers; return their tokens."""

    def one(number: int) -> str:
        person = {"email": f"customer-{number}@example.com", "password": PASSWORD}
        call(gateway, "POST", "/users", person)
        return str(call(gateway, "POST", "/login", person)["access_token"])

    with ThreadPoolExecutor(4) as pool:  # hashing passwords takes the time of two cores
        return list(pool.map(one, range(count)))


def skus(gateway: tuple[str, int], without: Sequence[str]) -> list[str]:
    return [p["sku"] for p in get(gateway, "/products") if p["sku"] not in without]
