"""TLS in which both sides show who they are, from certificates that are exchanged while it runs.

A context reads its certificate at each handshake, so loading a new one into it changes what new
connections show; those that are open go on with what they agreed on.
"""

import asyncio
import os
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seawall.errors import Misconfigured
from seawall.transport.tls import reason

_RECORD = 16 * 1024  # bytes; RFC 8446, 5.1

_FILES = ("tls.crt", "tls.key", "ca.crt")


class MutualTls:
    """Contexts for serving and calling, from `tls.crt`, `tls.key` and `ca.crt` in a directory.

    Certificates are verified against `ca.crt` alone, TLS 1.3 only, and host names are not looked
    at: who the other side is stands in its certificate (`peer_id`). `failed` hears of handshakes
    that fail, which event loops tell nobody. Everything here blocks for about a millisecond.
    Raises `Misconfigured` if the files cannot be used.
    """

    def __init__(
        self, directory: Path | str, failed: Callable[[ssl.SSLError], None] = lambda error: None
    ) -> None:
        self._directory = Path(directory)
        self._loaded: tuple[bytes, ...] = ()
        self.server = _context(ssl.PROTOCOL_TLS_SERVER, failed)
        self.client = _context(ssl.PROTOCOL_TLS_CLIENT, failed)
        self.refresh()

    @property
    def certificate(self) -> bytes:
        """What is shown now, as PEM."""
        return self._loaded[0]

    def refresh(self) -> bool:
        """Take what the files hold now; True if it is new.

        Raises `Misconfigured`, and goes on with what it had, while they do not fit together.
        A new authority is trusted beside the old one until this process ends.
        """
        fresh = self._prepare()
        if fresh is None:
            return False
        try:
            self._show(fresh)
        finally:
            fresh.discard()
        return True

    async def refreshed(self) -> bool:
        """The same, the disk being looked at in a thread. What is shown changes in this one, since
        a context must not change while another thread shakes hands with it."""
        fresh = await asyncio.to_thread(self._prepare)
        if fresh is None:
            return False
        try:
            self._show(fresh)
        finally:
            await asyncio.to_thread(fresh.discard)
        return True

    def _read(self) -> tuple[bytes, ...]:
        try:
            return tuple((self._directory / name).read_bytes() for name in _FILES)
        except OSError as exc:
            raise Misconfigured(
                f"{exc.filename} cannot be read: {exc.strerror}",
                fix=f"{self._directory} holds {', '.join(_FILES)}",
            ) from exc

    def _prepare(self) -> "_Fresh | None":
        """What the files hold, if it is new and fits together."""
        found = self._read()
        if found == self._loaded:
            return None
        certificate, key, authority = found
        descriptor, path = tempfile.mkstemp()
        fresh = _Fresh(found, Path(path), authority.decode("ascii", "replace"))
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(certificate + b"\n" + key)
            fresh.load(_context(ssl.PROTOCOL_TLS_CLIENT))
        except (ssl.SSLError, ValueError) as exc:
            fresh.discard()
            raise Misconfigured(
                f"{self._directory}: certificate, key and authority do not fit together: {exc}"
            ) from exc
        return fresh

    def _show(self, fresh: "_Fresh") -> None:
        for context in (self.server, self.client):
            fresh.load(context)
        self._loaded = fresh.files


@dataclass(frozen=True, slots=True)
class _Fresh:
    """Files that fit together. `pem` holds certificate and key in one, which nobody changes
    between two reads."""

    files: tuple[bytes, ...]
    pem: Path
    authority: str

    def load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self.pem)
        context.load_verify_locations(cadata=self.authority)

    def discard(self) -> None:
        self.pem.unlink()


class _Context(ssl.SSLContext):
    """A context whose handshakes say why they fail."""

    failed: Callable[[ssl.SSLError], None]


class _Shaken(ssl.SSLObject):
    """A handshake. A server that refuses says so to the client: an event loop sends what there is
    to send only if the handshake goes on, so it does, and fails as soon as anything else comes."""

    _failure: ssl.SSLError | None = None

    def read(self, len: int = _RECORD, buffer: Any = None) -> Any:  # noqa: A002 - it is theirs
        """At most a record comes at a time. Event loops ask for 256 KiB, which Python allocates
        anew for each read: that takes ten times as long as to decrypt a small answer."""
        return super().read(min(len, _RECORD), buffer)

    def do_handshake(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            context = self.context
            assert isinstance(context, _Context)
            context.failed(error)
            if not self.server_side or reason(error) == "not TLS":
                raise
            self._failure = error
            raise ssl.SSLWantReadError from error


def _context(
    protocol: int, failed: Callable[[ssl.SSLError], None] = lambda error: None
) -> ssl.SSLContext:
    context = _Context(protocol)
    context.failed = failed
    context.sslobject_class = _Shaken
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # who comes again shows its certificate again
    return context
