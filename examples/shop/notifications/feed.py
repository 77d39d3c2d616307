"""The news of orders for `live`, which reads them from the Valkey that is the registry.

Where the shop's messages take that Valkey anyway there is nothing to do. Where they take another
broker the news are copied there, under their own ids: so `live` needs one client, not one a broker.
"""

from seawall import Service
from seawall.messaging.base import Delivery
from seawall.messaging.connect import open_transport
from seawall.service.settings import Settings
from shop.contracts import OrderMoved

TOPIC = "order.moved"


def attach(service: Service, settings: Settings) -> None:
    """Have `service` copy the news, if `live` would not hear them otherwise."""
    if settings.registry_url == settings.messages_url:
        return
    valkey = open_transport(settings.registry_url)

    # One at a time, so that the copies keep such order as the broker does.
    @service.on(TOPIC, concurrency=1)
    async def copy(event: OrderMoved, message: Delivery) -> None:
        (receipt,) = await valkey.publish(TOPIC, [message.message])
        if receipt.error is not None:
            raise receipt.error

    service.on_stop(valkey.aclose)
