"""Accounts and tokens. Serve it alone with `uvicorn shop.users:service`."""

from shop.users.app import service as service
