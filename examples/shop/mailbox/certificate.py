"""TLS with both sides named, by the folder that SEAWALL_TLS names: how any command takes part.

The folder holds `tls.crt`, `tls.key`, `ca.crt` and `policy.json`; its files are replaced while we
run (the certificate last), and new connections show what is there then.
"""

import json
import socket
import ssl
from pathlib import Path
from typing import Any


class Certificate:
    """What we show, and who may come in. Used from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shown: tuple[int, int] | None = None
        self._context: ssl.SSLContext | None = None

    def accept(self, connection: socket.socket) -> ssl.SSLSocket:
        """Shake hands. Raises `ssl.SSLError`, or `PermissionError` for whom we do not serve."""
        secured = self._current().wrap_socket(connection, server_side=True)
        policy = json.loads((self._folder / "policy.json").read_bytes())
        names: Any = (secured.getpeercert() or {}).get("subjectAltName", ())
        if not {value for kind, value in names if kind == "URI"} & set(policy["callers"]):
            secured.close()
            raise PermissionError(f"{names} may not come in")
        return secured

    def _current(self) -> ssl.SSLContext:
        found = (self._folder / "tls.crt").stat()
        version = found.st_ino, found.st_mtime_ns
        if self._context is None or version != self._shown:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
            context.load_verify_locations(self._folder / "ca.crt")
            self._shown, self._context = version, context
        return self._context
