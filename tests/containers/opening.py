"""When a shop that has just been started is open: asked from outside."""

from shop.demo.doors import DemoFailed, Door, Doors

# Each is another service's: of Python, a command, and one that the gateway asks for keys.
_BEHIND_THE_GATEWAY = ("/products", "/mails", "/.well-known/jwks.json")


def is_open(gateway: Door, doors: Doors) -> bool:
    """Whether the gateway finds every service, and `orders` has heard of all prices."""
    try:
        for path in _BEHIND_THE_GATEWAY:
            gateway.get(path)
        return doors.knows_prices()
    except (DemoFailed, OSError):
        return False
