"""Bytes to meaning and back: HTTP/1.1 heads, message envelopes, trace context. Pure."""
