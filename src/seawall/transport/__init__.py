"""Bytes between processes: HTTP/1.1 client connections, their pools, and TLS."""
