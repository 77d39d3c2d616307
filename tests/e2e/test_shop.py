"""What a customer sees, and what the books say afterwards."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import (
    DECLINED_CARD,
    FLAKY_CARD,
    GOOD_CARD,
    PASSWORD,
    Customer,
    Shop,
    ask,
)
from tests.support.servers import Postgres
from tests.support.waiting import eventually_sync

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ORDER = {"lines": [{"sku": "mug", "quantity": 1}], "card": GOOD_CARD}


def test_an_order_is_charged_delivered_and_mailed(shop: Shop, customer: Customer) -> None:
    products = {p["sku"]: p["cents"] for p in shop.ask("GET", "/products").json()}
    assert customer.ask("GET", "/users/me").json()["email"] == customer.email
    order = customer.order("kettle", 2)
    ended = customer.ended(order)
    assert (ended["status"], ended["cents"]) == ("completed", 2 * products["kettle"])
    assert [event["what"] for event in ended["timeline"]][-1] == "completed"
    assert ended["card_end"] == "4242"
    charge = shop.ledger("payments", "/internal/ledger", order)[order]
    assert (charge["taken"], charge["returned"], charge["cents"]) == (1, 0, ended["cents"])
    reservation = shop.ledger("inventory", "/internal/reservations", order)[order]
    assert reservation["state"] == "sold"
    eventually_sync(lambda: customer.mails() == [f"Your order {order} is on its way"])


def test_a_declined_card_gives_the_stock_back(shop: Shop, customer: Customer) -> None:
    before = shop.available("grinder")
    order = customer.order("grinder", 5, card=DECLINED_CARD)
    ended = customer.ended(order)
    assert (ended["status"], ended["reason"]) == (
        "cancelled",
        "charge was rejected: card declined",
    )
    assert shop.available("grinder") == before
    assert shop.ledger("payments", "/internal/ledger", order)[order]["taken"] == 0
    assert "reserve undone" in [event["what"] for event in ended["timeline"]]
    eventually_sync(lambda: customer.mails() == [f"Your order {order} was cancelled"])


def test_an_operator_sees_the_saga_of_an_order(shop: Shop, customer: Customer) -> None:
    order = customer.order("kettle", 1, card=DECLINED_CARD)
    customer.ended(order)
    listed = json.loads(shop.seawall("sagas", "ls", "--phase", "compensated", "--json"))
    (orders,) = listed["services"]
    assert order in [saga["id"] for saga in orders["answer"]["sagas"]]
    shown = shop.seawall("sagas", "show", order)
    assert "charge rejected: card declined" in shown
    assert "reserve undone" in shown


def test_what_is_sold_out_is_not_charged(shop: Shop, customer: Customer) -> None:
    order = customer.order("gold-spoon", 4)
    ended = customer.ended(order)
    assert ended["reason"] == "reserve was rejected: gold-spoon is sold out"
    assert shop.ledger("payments", "/internal/ledger", order) == {}
    assert shop.available("gold-spoon") >= 0


def test_a_processor_that_fails_at_first_charges_once(shop: Shop, customer: Customer) -> None:
    order = customer.order(card=FLAKY_CARD)
    assert customer.ended(order)["status"] == "completed"
    charge = shop.ledger("payments", "/internal/ledger", order)[order]
    assert (charge["taken"], charge["calls"]) == (1, 3)


def test_the_same_key_is_the_same_order(shop: Shop, customer: Customer) -> None:
    with ThreadPoolExecutor(8) as pool:
        orders = set(pool.map(lambda _: customer.order(key="k"), range(8)))
    assert len(orders) == 1
    assert customer.order(key="k") in orders
    other = {"lines": [{"sku": "mug", "quantity": 2}], "card": GOOD_CARD}
    assert customer.ask("POST", "/orders", other, idempotency_key="k").status == 422
    assert shop.customer().order(key="k") not in orders, "a key belongs to its caller"
    assert [order["order_id"] for order in customer.ask("GET", "/orders").json()] == list(orders)


def test_browsing_goes_on_without_recommendations(shop: Shop, customer: Customer) -> None:
    def recommended_by() -> str:
        answer = shop.ask("GET", "/products/mug")
        assert answer.status == 200, answer
        return str(answer.json()["recommended_by"])

    assert recommended_by() == "recommendations"
    shop.seawall("scale", "recommendations=0")
    eventually_sync(lambda: recommended_by() == "bestsellers")
    assert customer.ended(customer.order())["status"] == "completed"
    shop.seawall("scale", "recommendations=1")
    eventually_sync(lambda: recommended_by() == "recommendations", within=30)


@pytest.mark.parametrize("victim", ["orders", "inventory", "payments"])
def test_kill_9_in_the_middle_changes_nothing(shop: Shop, customer: Customer, victim: str) -> None:
    orders = []
    for number in range(12):
        orders.append(customer.order("scale", card=DECLINED_CARD if number % 4 == 0 else GOOD_CARD))
        if number in (4, 8):
            shop.kill(victim, number // 4)
    ended = {order: customer.ended(order, within=60)["status"] for order in orders}
    assert [ended[order] for order in orders] == 3 * ["cancelled", *["completed"] * 3]
    charges = shop.ledger("payments", "/internal/ledger", *orders)
    assert [charges[order]["taken"] for order in orders] == 3 * [0, 1, 1, 1]
    reserved = shop.ledger("inventory", "/internal/reservations", *orders)
    assert [reserved[order]["state"] for order in orders] == 3 * ["released", *["sold"] * 3]
    eventually_sync(lambda: len(customer.mails()) >= len(orders), within=30)
    assert len(set(customer.mails())) == len(orders)
    eventually_sync(lambda: all(r["state"] == "ready" for r in shop.replicas(victim)), within=30)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b'{"lines": [{"sku": "mug", "quantity": NaN}], "card": "4242424242424242"}', 400),
        ({**ORDER, "card": "visa"}, 422),
        ({**ORDER, "lines": []}, 422),
        ({**ORDER, "lines": [{"sku": "mug", "quantity": 0}]}, 422),
        ({**ORDER, "lines": [{"sku": "mug", "quantity": 101}]}, 422),
        ({**ORDER, "lines": [{"sku": "unicorn", "quantity": 1}]}, 422),
        ({**ORDER, "lines": [{"sku": "'; drop table orders", "quantity": 1}]}, 422),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    customer: Customer, body: object, status: int
) -> None:
    answer = customer.ask("POST", "/orders", body, idempotency_key="nonsense")
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert customer.ask("GET", "/orders").json() == []


def test_who_does_not_say_who_they_are_gets_nothing(shop: Shop, customer: Customer) -> None:
    assert shop.ask("POST", "/orders", ORDER, idempotency_key="k").status == 401
    forged = shop.ask("GET", "/orders", x_identity_subject="somebody")
    assert forged.status == 401
    order = customer.order()
    assert shop.customer().ask("GET", f"/orders/{order}").status == 404
    assert customer.ask("POST", "/orders", ORDER).status == 422  # no Idempotency-Key
    assert shop.ask("GET", "/internal/ledger").status == 404


def test_accounts(shop: Shop, customer: Customer) -> None:
    again = {"email": customer.email.upper(), "password": PASSWORD}
    assert shop.ask("POST", "/users", again).status == 409
    assert shop.ask("POST", "/login", again).status == 200
    assert shop.ask("POST", "/login", {**again, "password": "wrong password"}).status == 401
    nobody = {"email": "nobody@example.org", "password": PASSWORD}
    assert shop.ask("POST", "/login", nobody).status == 401
    for email, password in (("no address", PASSWORD), ("a@b.c\n", PASSWORD), ("a@b.c", "short")):
        assert shop.ask("POST", "/users", {"email": email, "password": password}).status == 422
    keys = shop.ask("GET", "/.well-known/jwks.json").json()["keys"]
    assert all("d" not in key for key in keys), "the private half is nobody's business"


def test_live_tells_each_status_in_order(shop: Shop, customer: Customer) -> None:
    _needs_node()
    order = customer.order()
    stream = customer.follow(order)
    assert stream.answer.getheader("content-type") == "text/event-stream"
    told = list(stream.events())
    stream.close()
    assert [event["status"] for event in told] == ["placed", "reserved", "charged", "completed"]
    assert all("customer" not in event for event in told)
    resumed = customer.follow(order, last_event_id=str(told[1]["sequence"]))
    assert [event["status"] for event in resumed.events()] == ["charged", "completed"]
    resumed.close()


def test_live_is_for_the_customer_alone(shop: Shop, customer: Customer) -> None:
    _needs_node()
    order = customer.order()
    customer.ended(order)
    stranger = shop.customer().follow(order)
    assert stranger.answer.status == 404
    stranger.close()
    assert shop.ask("GET", f"/live/orders/{order}").status == 401


def test_any_replica_of_live_can_answer_anybody(shop: Shop, customer: Customer) -> None:
    _needs_node()
    shop.seawall("scale", "live=2")
    eventually_sync(lambda: [r["state"] for r in shop.replicas("live")] == ["ready"] * 2, within=20)
    me = customer.ask("GET", "/users/me").json()["user_id"]
    order = customer.order()
    for replica in shop.replicas("live"):
        stream = customer.follow(order, replica["address"], x_identity_subject=me)
        assert [e["status"] for e in stream.events()][-1] == "completed"
        stream.close()
    shop.seawall("scale", "live=1")


def test_the_shop_on_postgres(tmp_path: Path, postgres: Postgres) -> None:
    """The same shop; only URLs differ."""
    import asyncio

    import asyncpg

    owners = ["users", "catalog", "orders", "inventory", "payments", "notifications"]

    async def create() -> None:
        admin = await asyncpg.connect(postgres.url.replace("+asyncpg", ""))
        for owner in owners:
            await admin.execute(f"create database shop_{owner}")
        await admin.close()

    asyncio.run(create())
    base = postgres.url.rsplit("/", 1)[0]
    shop = Shop(
        tmp_path,
        {f"SEAWALL_SERVICES__{o.upper()}__DATABASE": f"{base}/shop_{o}" for o in owners},
    )
    shop.up()
    try:
        customer = shop.customer()
        orders = [customer.order(card=c) for c in (GOOD_CARD, DECLINED_CARD, GOOD_CARD)]
        ended = [customer.ended(order)["status"] for order in orders]
        assert ended == ["completed", "cancelled", "completed"]
        eventually_sync(lambda: len(customer.mails()) == 3)
        assert not list((shop.folder / ".seawall" / "data").glob("*.db"))
        orders_at = shop.address("orders")
        eventually_sync(lambda: ask(orders_at, "GET", "/health").json()["status"] == "pass")
    finally:
        shop.down()


def _needs_node() -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed: the shop runs without live")
