"""Products and prices. Serve it alone with `uvicorn shop.catalog:service`."""

from shop.catalog.app import service as service
