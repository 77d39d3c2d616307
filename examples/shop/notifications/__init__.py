"""Mails to customers. Serve it alone with `uvicorn shop.notifications:service`."""

from shop.notifications.app import service as service
