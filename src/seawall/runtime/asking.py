"""How the supervisor reaches a process that it asks: a connection of its own each time."""

import asyncio
import ssl
from dataclasses import dataclass

from seawall.errors import Refused
from seawall.topology import Address
from seawall.transport.tls import Secured, explained, reason

_NOT_TLS = "; its certificate is where SEAWALL_TLS says, or set mtls = false for this service"


@dataclass(frozen=True, slots=True)
class At:
    """An address, and how to speak there: in plain text if `tls` is None."""

    address: Address
    tls: Secured | None = None

    async def connect(
        self, limit: int = 65536
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises `OSError`; also where somebody else answers. `limit` as asyncio has it."""
        tls = self.tls
        try:
            reader, writer = await asyncio.open_connection(
                self.address.host,
                self.address.port,
                limit=limit,
                ssl=None if tls is None else tls.context,
            )
        except ssl.SSLError as exc:
            fix = _NOT_TLS if reason(exc) == "not TLS" else ""
            raise ConnectionError(f"{explained(exc)}{fix}") from exc
        if tls is not None:
            try:
                tls.check(writer.get_extra_info("peercert"))
            except Refused as exc:
                writer.close()
                raise ConnectionError(str(exc)) from exc
        return reader, writer

    def __str__(self) -> str:
        return str(self.address)
