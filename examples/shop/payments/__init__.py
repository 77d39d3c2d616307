"""Charges and refunds. Serve it alone with `uvicorn shop.payments:service`."""

from shop.payments.app import service as service
