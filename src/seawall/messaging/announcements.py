"""Wakes relays by what other processes commit: PostgreSQL's NOTIFY, heard on one connection.

Only a hint. NOTIFY reaches whoever listens at that moment, and some proxies of PostgreSQL do not
pass it on; what it misses a relay finds by its sweep.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from seawall.clock import Clock
from seawall.facts import Observer

CHANNEL = "seawall_outbox"

# Part of the transaction that wrote the rows: it is heard when that commits. Of several in one
# transaction PostgreSQL sends one.
ANNOUNCE = select(func.pg_notify(CHANNEL, ""))

# Before listening again. Meanwhile the sweep finds what is there.
AGAIN = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Unheard:
    """The outbox of other processes is not heard for a while; the sweep goes on."""

    error: str


async def listen(
    engine: AsyncEngine, wake: Callable[[], None], *, clock: Clock, observer: Observer
) -> None:
    """Call `wake` at every announcement, until cancelled; outlives a database that goes away."""
    while True:
        try:
            await _listen(engine, wake)
            observer(Unheard("the connection ended"))
        except Exception as error:  # noqa: BLE001 - the driver's own, of which nobody here knows
            observer(Unheard(f"{type(error).__name__}: {error}"))
        await clock.sleep(AGAIN)


async def _listen(engine: AsyncEngine, wake: Callable[[], None]) -> None:
    """Until the connection ends."""
    ended = asyncio.Event()
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None, "it was just taken out of the pool"
        # The pool opens another in its place: one that only listens takes no transaction's.
        await connection.run_sync(_detach)
        driver.add_termination_listener(lambda _: ended.set())
        await driver.add_listener(CHANNEL, lambda *_: wake())
        wake()  # for what was announced before
        await ended.wait()


def _detach(connection: Connection) -> None:
    connection.detach()
