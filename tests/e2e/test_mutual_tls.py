"""The shop by mTLS: nothing else is changed, and nothing else is noticed."""

import shutil
from pathlib import Path

from tests.e2e.conftest import Shop
from tests.support.waiting import eventually_sync


def test_an_order_goes_through_by_mtls(tmp_path: Path) -> None:
    shop = Shop(tmp_path, {"SEAWALL_IDENTITY__MTLS": "true"})
    try:
        shop.up()
        assert shop.seawall("ps").rstrip().endswith(", mTLS")
        customer = shop.customer()  # whose token the gateway checks by keys of `users`
        order = customer.order()
        assert customer.ended(order)["status"] == "completed"
        if shutil.which("node"):
            stream = customer.follow(order)
            *_, last = stream.events()
            stream.close()
            assert last["status"] == "completed"
        eventually_sync(lambda: len(customer.mails()) == 1, within=20)
        assert shop.ask("GET", "/products/mug").json()["sku"] == "mug"
    finally:
        shop.down()
