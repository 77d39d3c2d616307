"""`python -m shop.mailbox`: HTTP on $PORT, SMTP on $SMTP_PORT (0 = any free one), both on $HOST.

No Seawall in here: any command that listens on a port is a service. HTTP is by TLS where the
environment has SEAWALL_TLS.

    GET /smtp            where SMTP is: {"host": ..., "port": ...}
    GET /mails           ?after=NUMBER&limit=N&recipient=ADDRESS, oldest first
    GET /mails/NUMBER    the mail as it came
    GET /readyz
"""

import asyncio
import json
import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller

from shop.mailbox.certificate import Certificate
from shop.mailbox.store import Mails

LOOPBACK = "127.0.0.1"

GREETING = 5.0  # seconds a TLS handshake may take

# The greatest mail taken. The shop's own have one kilobyte.
LARGEST = 1_000_000  # bytes


class Inbound:
    """aiosmtpd calls this for each mail; it says 250 only when the mail is on disk."""

    def __init__(self, mails: Mails) -> None:
        self._mails = mails

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        # In aiosmtpd's own thread, which has nothing else to do: mails are few here.
        mail = self._mails.add(envelope.content)
        return f"250 kept as {mail.number}"


class Smtp(Controller):
    """The SMTP server, in a thread of its own."""

    def _trigger_server(self) -> None:
        # aiosmtpd tries its own door, at the port it was given: 0 for any free one.
        with socket.create_connection((self.hostname, self.bound_port), 1.0) as door:
            door.recv(1024)

    @property
    def bound_port(self) -> int:
        assert isinstance(self.server, asyncio.Server)
        return int(self.server.sockets[0].getsockname()[1])


class Server(ThreadingHTTPServer):
    """Shows the mails."""

    daemon_threads = True  # an idle connection does not hold the process
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        mails: Mails,
        smtp_port: int,
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(address, Pages)
        self.mails = mails
        self.smtp_port = smtp_port
        self._certificate = certificate

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._certificate is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(GREETING)
        try:
            secured = self._certificate.accept(request)
        except OSError:  # not TLS, no certificate, or one of somebody else
            return
        with secured:
            super().finish_request(secured, client_address)


class Pages(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 120  # seconds an idle connection is kept

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path in ("/readyz", "/livez"):
            self._answer(200, b'{"status": "ok"}')
        elif url.path == "/smtp":
            # Where we were asked is where we are reached, in a container too.
            host = self.connection.getsockname()[0]
            self._json({"host": host, "port": self.server.smtp_port})
        elif url.path == "/mails":
            self._list(parse_qs(url.query))
        elif url.path.startswith("/mails/"):
            self._mail(url.path.removeprefix("/mails/"))
        else:
            self._problem(404, "no such page")

    def _list(self, query: dict[str, list[str]]) -> None:
        try:
            after = int(query.get("after", ["0"])[0])
            limit = min(1000, int(query.get("limit", ["1000"])[0]))
        except ValueError:
            self._problem(422, "after and limit are numbers")
            return
        recipient = query["recipient"][0] if "recipient" in query else None
        found = self.server.mails.listed(after, limit, recipient)
        self._json([mail.as_json() for mail in found])

    def _mail(self, text: str) -> None:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
        content = self.server.mails.content(number)
        if content is None:
            self._problem(404, "no such mail")
        else:
            self._answer(200, content, "message/rfc822")

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode())

    def _problem(self, status: int, detail: str) -> None:
        body = json.dumps({"type": "about:blank", "status": status, "detail": detail})
        self._answer(status, body.encode(), "application/problem+json")

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Probes and polls are not worth a line each."""


def main() -> None:
    mails = Mails(Path(os.environ.get("SHOP_MAILS", ".seawall/data/mails")))
    host = os.environ.get("HOST", LOOPBACK)
    smtp = Smtp(
        Inbound(mails),
        hostname=host,
        port=int(os.environ.get("SMTP_PORT", "0")),
        data_size_limit=LARGEST,
    )
    smtp.start()
    folder = os.environ.get("SEAWALL_TLS")
    certificate = Certificate(Path(folder)) if folder else None
    address = host, int(os.environ.get("PORT", "8025"))
    http = Server(address, mails, smtp.bound_port, certificate)

    def stop(*_: object) -> None:
        # In a thread, since shutdown waits for the loop that this handler interrupts.
        threading.Thread(target=http.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    http.serve_forever(poll_interval=0.1)
    http.server_close()
    smtp.stop()


if __name__ == "__main__":
    main()
