"""`make kills`: kill -9, 200 times, while the shop takes orders; then the books.

    --broker B     valkey (default), rabbitmq or nats: started here, and killed too
    --url URL      a broker that runs already, and is not killed
    --kills N      how many (default 200)
    --every S      seconds from one kill to the next, at least (default 0.8)
    --rate R       requests a second, of which a third are orders (default 10)
    --seed N       of victims and customers

Exit status 0 only if there were that many kills, orders were accepted, none of them was lost, and
nothing happened twice: no charge, no sale, no stock held or given back. A mail may be sent twice,
which SMTP cannot exclude; second copies are counted. The figures also go to build/kills.json.

A process that is killed loses what it had not written; a machine that loses its power also what
it had not flushed to disk. This is about the first. Valkey flushes each write before it answers,
RabbitMQ's quorum queues too; NATS has written it.
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Protocol

from seawall.cli.admin import Admin
from seawall.cli.failure import Failure
from seawall.clock import SYSTEM
from seawall.runtime.layout import Layout
from shop.demo.books import Accepted, Books, audit
from shop.demo.customers import Plan, visit
from shop.demo.doors import DemoFailed, register, settle, skus
from shop.demo.shop import Shop, running_shop
from tests.support import servers

BUILD = Path(__file__).parents[2] / "build"
CUSTOMERS = 8
ROUND = 20.0  # seconds; customers come in rounds until all kills are done
SETTLE_WITHIN = 180.0  # seconds; a step that nobody answered is asked for again after 120

BROKER = "broker"
# Whom to kill, how often of a hundred times, and what it is in the life of an order.
SHARES: Mapping[str, int] = {"orders": 32, "inventory": 24, "payments": 20, "notifications": 14}
BROKERS_SHARE = 10
ROLES = {
    "orders": "producer, and relay of its outbox",
    "inventory": "consumer, and relay of its answers",
    "payments": "consumer",
    "notifications": "consumer",
    BROKER: "with all connections to it",
}
# RabbitMQ takes ten seconds to start again, and finds queues again that it has written down.
SELDOM = {"rabbitmq": 4}


class Broker(Protocol):
    """A server that can be killed, and started with the data it had."""

    @property
    def url(self) -> str: ...

    def kill(self) -> None: ...

    def start(self) -> object: ...

    def stop(self) -> None: ...


_STARTS: Mapping[str, Callable[[], Broker]] = {
    "valkey": servers.valkey,
    "rabbitmq": servers.rabbitmq,
    "nats": servers.nats,
}


def victims(kills: int, brokers_share: int, rng: Random) -> list[str]:
    """Whom to kill, in which order: each as often as its share says, the broker at least once."""
    shares = {**SHARES, BROKER: brokers_share} if brokers_share else dict(SHARES)
    total = sum(shares.values())
    found = [name for name, share in shares.items() for _ in range(max(1, kills * share // total))]
    names = list(shares)
    while len(found) < kills:
        found.append(names[len(found) % len(SHARES)])
    rng.shuffle(found)
    return found[:kills]


class Killer:
    """Kills one after the other, in a thread of its own."""

    def __init__(
        self, shop: Shop, broker: Broker | None, whom: list[str], every: float, say: Any
    ) -> None:
        self._admin = Admin(Layout(shop.folder))
        self._broker = broker
        self._whom = whom
        self._every = every
        self._say = say
        self._reviving: threading.Thread | None = None
        self._pause = threading.Event()
        self.kills: Counter[str] = Counter()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def busy(self) -> bool:
        return self.thread.is_alive()

    def _run(self) -> None:
        for number, victim in enumerate(self._whom, 1):
            due = SYSTEM.now() + self._every
            if victim == BROKER:
                self._kill_broker()
            else:
                self._kill(victim)
            self.kills[victim] += 1
            if number % 20 == 0:
                self._say(f"{number} kills")
            self._pause.wait(max(0.0, due - SYSTEM.now()))
        if self._reviving is not None:
            self._reviving.join()

    def _kill(self, service: str) -> None:
        """Kill the oldest replica of that service, as soon as one is ready."""
        while True:
            try:
                rows = self._admin.get("/v1/ps")["instances"]
            except Failure:  # slow to answer
                rows = []
            ready = [row for row in rows if (row["service"], row["state"]) == (service, "ready")]
            if ready:
                with suppress(ProcessLookupError):  # it ended by itself in this moment
                    os.kill(max(ready, key=lambda row: row["uptime_s"])["pid"], signal.SIGKILL)
                    return
            self._pause.wait(0.1)

    def _kill_broker(self) -> None:
        assert self._broker is not None
        if self._reviving is not None:  # it is killed when it runs
            self._reviving.join()
        self._broker.kill()
        self._reviving = threading.Thread(target=self._broker.start, daemon=True)
        self._reviving.start()


def main() -> int:
    options = _options()
    began = SYSTEM.now()

    def say(text: str) -> None:
        print(f"  {SYSTEM.now() - began:5.1f} s  {text}", flush=True)

    BUILD.mkdir(exist_ok=True)
    try:
        with (
            _broker(options) as (url, broker),
            running_shop(BUILD / "kills", SEAWALL_MESSAGES__URL=url) as shop,
        ):
            say(f"the shop is ready; its messages take {options.broker or url}")
            share = SELDOM.get(options.broker, BROKERS_SHARE) if broker else 0
            whom = victims(options.kills, share, Random(options.seed))
            accepted, offered, kills = _kill_and_order(shop, broker, whom, options, say)
            say("waiting until every order has ended")
            ledgers, settled = settle(shop, SETTLE_WITHIN)
            say(f"at rest after {settled:.1f} s" if settled is not None else "never came to rest")
    except DemoFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    books = audit(accepted, ledgers)
    copies = len(ledgers.mails) - len(set(ledgers.mails))
    figures = {"kills": kills, "offered": offered, "copies": copies} | {
        name: getattr(books, name)
        for name in ("accepted", "completed", "declined", "lost", "charged_twice", "problems")
    }
    (BUILD / "kills.json").write_text(json.dumps(figures, indent=2) + "\n")
    _print(kills, offered, books, copies)
    return 0 if books.clean and books.accepted and kills.total() == options.kills else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make kills", description="kill -9 under orders.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--broker", choices=list(_STARTS), default="")
    where.add_argument("--url", default=os.environ.get("SEAWALL_MESSAGES__URL", ""))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--every", type=float, default=0.8)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not options.url:
        options.broker = options.broker or "valkey"
    return options


@contextmanager
def _broker(options: argparse.Namespace) -> Iterator[tuple[str, Broker | None]]:
    """The URL of a broker, and the broker itself if it is ours to kill."""
    if not options.broker:
        yield options.url, None
        return
    broker = _STARTS[options.broker]()
    try:
        yield broker.url, broker
    finally:
        broker.stop()


def _kill_and_order(
    shop: Shop, broker: Broker | None, whom: list[str], options: argparse.Namespace, say: Any
) -> tuple[list[Accepted], int, Counter[str]]:
    """Let customers order for as long as there is somebody to kill."""
    host, port = shop.address("gateway")
    tokens = register((host, port), CUSTOMERS)
    products = skus((host, port), without=["gold-spoon"])
    if isinstance(broker, servers.RabbitServer):
        broker.settle()
    killer = Killer(shop, broker, whom, options.every, say)
    accepted: list[Accepted] = []
    offered = 0
    seed = options.seed * 1000
    while killer.busy:
        seed += 1
        plan = Plan(host, port, tokens, products, seed, options.rate, ROUND, factor=1)
        seen = visit(plan)
        accepted += [Accepted(*promise) for promise in seen["accepted"]]
        offered += seen["offered"]
    return accepted, offered, killer.kills


def _print(kills: Counter[str], offered: int, books: Books, copies: int) -> None:
    rows: list[tuple[str, object]] = [("kills -9", kills.total())]
    rows += [(f"  {name}", f"{kills[name]:>4}  {ROLES[name]}") for name in ROLES if kills[name]]
    rows += [
        ("orders offered", offered),
        ("accepted", books.accepted),
        ("completed", books.completed),
        ("declined", books.declined),
        ("lost", books.lost),
        ("charged twice", books.charged_twice),
        ("does not add up", len(books.problems)),
        ("mails sent twice", copies),
    ]
    print()
    for name, value in rows:
        print(f"  {name:<18} {value}")
    for problem in books.problems[:10]:
        print(f"    does not add up: {problem}")
    if BROKER not in kills:
        print("  The broker was not killed: it was not started here.")
    print(f"\n  the books are {'clean' if books.clean else 'NOT clean'}; see build/kills.json")


if __name__ == "__main__":
    sys.exit(main())
