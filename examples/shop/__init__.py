"""A shop cut along its domain: each folder is a service with its own database."""
