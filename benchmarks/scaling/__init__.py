"""Scaling measured: what decisions cost, and what they would have cost a service and its users."""
