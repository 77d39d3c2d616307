"""The shop, run by `seawall up` in a folder of its own and entered through the gateway."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.support.waiting import eventually_sync

EXAMPLES = Path(__file__).parents[2] / "examples"
SEAWALL = Path(sys.executable).with_name("seawall")
PASSWORD = "correct horse battery staple"
GOOD_CARD = "4242424242424242"
DECLINED_CARD = "4000000000000002"
FLAKY_CARD = "4000000000000119"

if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    address: str, method: str, path: str, body: object = None, headers: Mapping[str, str] = {}
) -> Reply:
    connection = HTTPConnection(address, timeout=20)
    try:
        content = body if isinstance(body, bytes | None) else json.dumps(body)
        connection.request(method, path, content, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, found, answer.read())
    finally:
        connection.close()


class Shop:
    """A running shop."""

    def __init__(self, folder: Path, environment: Mapping[str, str] = {}) -> None:
        self.folder = folder / "shop"
        shutil.copytree(
            EXAMPLES / "shop",
            self.folder,
            ignore=shutil.ignore_patterns(".seawall", "__pycache__", "demo"),
        )
        self._environment = {**os.environ, **environment}
        self._log = folder / "up.log"
        self._customers = count(1)

    def up(self) -> None:
        try:
            self.seawall("up", "--wait", "--port", "0", "--timeout", "60")
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self._said()}") from None
        self.gateway = urlsplit(self._ps()["url"]).netloc

    def _said(self) -> str:
        logs = sorted((self.folder / ".seawall" / "logs").glob("*"))
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-800:]}" for log in logs)

    def down(self) -> None:
        """Stop it; fails if a process of it is left."""
        self.seawall("down")
        left = [process for process in psutil.process_iter(["cwd"]) if self._is_ours(process)]
        for process in left:
            process.kill()
        assert not left

    def _is_ours(self, process: psutil.Process) -> bool:
        return str(process.info["cwd"] or "").startswith(str(self.folder.parent))

    def seawall(self, *arguments: str) -> str:
        done = subprocess.run(
            [SEAWALL, *arguments, "--project", self.folder],
            capture_output=True,
            text=True,
            env=self._environment,
            check=False,
        )
        assert done.returncode == 0, f"seawall {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def _ps(self) -> Any:
        return json.loads(self.seawall("ps", "--json"))

    def replicas(self, service: str) -> list[Any]:
        return [row for row in self._ps()["instances"] if row["service"] == service]

    def address(self, service: str) -> str:
        """Where a ready replica answers, past the gateway."""
        return str(next(r["address"] for r in self.replicas(service) if r["state"] == "ready"))

    def kill(self, service: str, which: int = 0) -> None:
        """kill -9 one replica."""
        ready = [row for row in self.replicas(service) if row["state"] == "ready"]
        os.kill(ready[which % len(ready)]["pid"], signal.SIGKILL)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(self.gateway, method, path, body, names)

    def ledger(self, service: str, path: str, *orders: str) -> dict[str, Any]:
        """What a service wrote down about these orders."""
        found: dict[str, Any] = {}
        after = ""
        while page := ask(self.address(service), "GET", f"{path}?after={after}").json():
            found |= {line["order_id"]: line for line in page if line["order_id"] in orders}
            after = page[-1]["order_id"]
        return found

    def available(self, sku: str) -> int:
        stock = ask(self.address("inventory"), "GET", "/stock").json()
        return int(next(line["available"] for line in stock if line["sku"] == sku))

    def customer(self) -> "Customer":
        email = f"customer-{next(self._customers)}@example.org"
        assert self.ask("POST", "/users", {"email": email, "password": PASSWORD}).status == 201
        answer = self.ask("POST", "/login", {"email": email, "password": PASSWORD})
        assert answer.status == 200, answer
        customer = Customer(self, email, answer.json()["access_token"])
        # A gateway that has just started reads the keys of `users` within a second.
        for _ in range(2 * len(self.replicas("gateway"))):
            eventually_sync(lambda: customer.ask("GET", "/users/me").status == 200)
        return customer


@dataclass
class Customer:
    shop: Shop
    email: str
    token: str
    _keys: Iterator[int] = field(default_factory=count)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        return self.shop.ask(method, path, body, authorization=f"Bearer {self.token}", **headers)

    def order(
        self, sku: str = "mug", quantity: int = 1, *, card: str = GOOD_CARD, key: str = ""
    ) -> str:
        """Place an order, again under the same key where that is wise; return its id."""
        key = key or f"{self.email}-{next(self._keys)}"
        body = {"lines": [{"sku": sku, "quantity": quantity}], "card": card}

        def accepted() -> bool:
            nonlocal answer
            answer = self.ask("POST", "/orders", body, idempotency_key=key)
            assert answer.status in (202, 502, 503, 504), answer
            return answer.status == 202

        answer: Reply
        eventually_sync(accepted, within=15)
        return str(answer.json()["order_id"])

    def status(self, order_id: str) -> Any:
        answer = self.ask("GET", f"/orders/{order_id}")
        assert answer.status in (200, 502, 503, 504), answer
        return answer.json() if answer.status == 200 else {"status": "unknown now"}

    def ended(self, order_id: str, within: float = 20) -> Any:
        """The order, once it has ended."""
        order: Any = None

        def over() -> bool:
            nonlocal order
            order = self.status(order_id)
            return order["status"] in ("completed", "cancelled")

        eventually_sync(over, within)
        return order

    def mails(self) -> list[str]:
        """Subjects of the mails this customer got."""
        found = self.shop.ask("GET", f"/mails?recipient={self.email}").json()
        return [mail["subject"] for mail in found]

    def follow(self, order_id: str, address: str = "", **headers: str) -> "Stream":
        return Stream(address or self.shop.gateway, order_id, self.token, headers)


class Stream:
    """Server-sent events of one order."""

    def __init__(self, address: str, order_id: str, token: str, headers: Mapping[str, str]) -> None:
        self._connection = HTTPConnection(address, timeout=20)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(
            "GET", f"/live/orders/{order_id}", headers={"authorization": f"Bearer {token}", **names}
        )
        self.answer: HTTPResponse = self._connection.getresponse()

    def events(self) -> Iterator[Any]:
        """Each status as it comes, until the stream ends."""
        for line in self.answer:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    running = Shop(tmp_path_factory.mktemp("project"))
    running.up()
    yield running
    running.down()


@pytest.fixture
def customer(shop: Shop) -> Customer:
    return shop.customer()
