"""The shop in containers, the gateway in front: orders while containers are killed; the books.

The figures go to build/containers-ENGINE.json.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from shop.demo.books import Accepted, audit
from shop.demo.customers import Plan, visit
from shop.demo.doors import Door, register, settle, skus
from tests.containers.compose import Composed, composed, server_images
from tests.containers.opening import is_open
from tests.support.containers import Engine
from tests.support.waiting import eventually_sync

BUILD = Path(__file__).parents[2] / "build"

SECONDS = 20.0  # of load
VICTIMS = ("orders", "payments", "inventory", "notifications")
CUSTOMERS = 4


@pytest.fixture
def shop(engine: Engine, image: str, project: Path, tmp_path: Path) -> Iterator[Composed]:
    server_images(engine, image)
    with composed(engine, project, tmp_path) as running:
        eventually_sync(lambda: is_open(Door(running.gateway), running.doors), within=60.0)
        yield running


def test_the_books_are_clean_when_containers_die(shop: Composed, engine: Engine) -> None:
    plan = Plan(
        host=shop.gateway[0],
        port=shop.gateway[1],
        tokens=register(shop.gateway, CUSTOMERS),
        skus=skus(shop.gateway, without=["gold-spoon"]),
        seed=1,
        rate=5,
        seconds=SECONDS,
        factor=2,
    )
    killed, over = [], threading.Event()

    def kill() -> None:
        for victim in VICTIMS:
            if over.wait(SECONDS / (len(VICTIMS) + 1)):
                return
            killed.append(shop.kill(victim))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        seen = visit(plan)
    finally:
        over.set()
        killer.join()
    ledgers, settled = settle(shop, within=180.0)
    books = audit([Accepted(*promise) for promise in seen["accepted"]], ledgers)
    figures = {**asdict(books), "killed": killed, "settled": settled}
    BUILD.mkdir(exist_ok=True)
    (BUILD / f"containers-{engine.name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    assert len(killed) == len(VICTIMS)
    assert settled is not None, shop.told()
    assert books.accepted > 0
    assert (books.lost, books.charged_twice, books.problems) == (0, 0, []), shop.told()
