"""Orders. Serve it alone with `uvicorn shop.orders:service`."""

from shop.orders.app import service as service
