"""`make order`: one customer of a running shop, from registration to the mail.

python -m shop.demo.order [--gateway 127.0.0.1:8000] [--card 4242424242424242]
"""

import argparse
import sys
import uuid
from http.client import HTTPConnection
from threading import Event

from shop.demo.customers import GOOD_CARD
from shop.demo.doors import PASSWORD, DemoFailed, call

ENDED = ("completed", "cancelled")
WITHIN = 30.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="make order", description="Place one order.")
    parser.add_argument("--gateway", default="127.0.0.1:8000", metavar="HOST:PORT")
    parser.add_argument("--card", default=GOOD_CARD, help="4000000000000002 is declined")
    options = parser.parse_args()
    host, _, port = options.gateway.rpartition(":")
    try:
        _order((host, int(port)), options.card)
    except (DemoFailed, OSError) as failure:
        print(f"error: {failure}\n  fix: make up starts the shop", file=sys.stderr)
        return 1
    return 0


def _order(gateway: tuple[str, int], card: str) -> None:
    email = f"{uuid.uuid4().hex[:8]}@example.com"
    call(gateway, "POST", "/users", {"email": email, "password": PASSWORD})
    token = call(gateway, "POST", "/login", {"email": email, "password": PASSWORD})["access_token"]
    headers = {"authorization": f"Bearer {token}", "idempotency-key": uuid.uuid4().hex}
    body = {"lines": [{"sku": "mug", "quantity": 2}], "card": card}
    order = call(gateway, "POST", "/orders", body, headers)
    print(f"{email} ordered two mugs: {order['order_id']} is {order['status']}")
    pause = Event()
    for _ in range(int(WITHIN / 0.1)):
        order = call(gateway, "GET", f"/orders/{order['order_id']}", headers=headers)
        mails = call(gateway, "GET", f"/mails?recipient={email}")
        if order["status"] in ENDED and mails:
            break
        pause.wait(0.1)
    began = order["timeline"][0]["at"]
    for entry in order["timeline"]:
        print(f"  {entry['at'] - began:7.3f} s  {entry['what']}")
    print(f"it is {order['status']}; the mail:")
    for mail in mails:
        print("\n".join(f"  {line}" for line in _mail(gateway, mail["number"]).splitlines()))


def _mail(gateway: tuple[str, int], number: int) -> str:
    connection = HTTPConnection(*gateway, timeout=30)
    try:
        connection.request("GET", f"/mails/{number}")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
