"""Bytes between processes: HTTP/1.1 client connections and their pools."""
