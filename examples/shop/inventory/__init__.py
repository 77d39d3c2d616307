"""Stock and reservations. Serve it alone with `uvicorn shop.inventory:service`."""

from shop.inventory.app import service as service
