"""A running shop, wherever it runs: asked through the same doors as anyone."""

import json
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from types import MappingProxyType
from typing import Any, Protocol

from seawall.clock import SYSTEM
from shop.demo.books import CANCELLED, COMPLETED, Charge, Ledgers, Order, Reservation, Stock

PAGE = 1000  # ledger lines asked for at once
PASSWORD = "correct horse battery staple"

Address = tuple[str, int]


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where a replica is asked; in plain text without `tls`."""

    address: Address
    tls: ssl.SSLContext | None = None

    def get(self, path: str) -> Any:
        return call(self.address, "GET", path, tls=self.tls)


class Doors:
    """`find` gives that of a replica of a service."""

    def __init__(self, find: Callable[[str], Door]) -> None:
        self._find = find

    def knows_prices(self) -> bool:
        """Has `orders` heard of all prices? How long that takes is the broker's."""
        known = self._find("orders").get("/internal/prices")
        products = self._find("catalog").get("/products")
        return all(product["sku"] in known for product in products)

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
                for s in self._find("inventory").get("/stock")
            ],
            mails=self._mails(),
        )

    def _pages(self, service: str, path: str) -> list[dict[str, Any]]:
        door, found, after = self._find(service), [], ""
        while page := door.get(f"{path}?after={after}&limit={PAGE}"):
            found += page
            after = page[-1]["order_id"]
        return found

    def _mails(self) -> list[str]:
        """The order that each mail is about: its Message-ID is <STATUS.ORDER@shop>."""
        door, found, after = self._find("mailbox"), [], 0
        while page := door.get(f"/mails?after={after}&limit={PAGE}"):
            found += [mail["message_id"].strip("<>").split("@")[0].split(".")[-1] for mail in page]
            after = page[-1]["number"]
        return found


class Kept(Protocol):
    def ledgers(self) -> Ledgers: ...


def settle(shop: Kept, within: float) -> tuple[Ledgers, float | None]:
    """The ledgers once all orders have ended and their mails are out, and how long that took."""
    pause = threading.Event()
    began = SYSTEM.now()
    while True:
        try:
            ledgers = shop.ledgers()
        except (DemoFailed, OSError):  # whom we asked is just being started again
            if SYSTEM.now() - began > within:
                raise
            pause.wait(0.5)
            continue
        ended = {o.order_id for o in ledgers.orders if o.status in (COMPLETED, CANCELLED)}
        if len(ended) == len(ledgers.orders) and ended <= set(ledgers.mails):
            return ledgers, SYSTEM.now() - began
        if SYSTEM.now() - began > within:
            return ledgers, None
        pause.wait(0.5)


def call(
    address: Address,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] = MappingProxyType({}),
    tls: ssl.SSLContext | None = None,
) -> Any:
    connection = (
        HTTPConnection(*address, timeout=30)
        if tls is None
        else HTTPSConnection(*address, timeout=30, context=tls)
    )
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


def register(gateway: Address, count: int) -> list[str]:
    """Register and log in `count` customers; return their tokens."""

    def one(number: int) -> str:
        person = {"email": f"customer-{number}@example.com", "password": PASSWORD}
        call(gateway, "POST", "/users", person)
        return str(call(gateway, "POST", "/login", person)["access_token"])

    with ThreadPoolExecutor(4) as pool:  # hashing passwords takes the time of two cores
        return list(pool.map(one, range(count)))


def skus(gateway: Address, without: Sequence[str]) -> list[str]:
    return [p["sku"] for p in Door(gateway).get("/products") if p["sku"] not in without]
