"""The registry's protocol: what every implementation promises."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from seawall.topology import Instance

# How long an instance is believed after its last heartbeat. Heartbeats come at a third of it,
# so two may be lost.
DEFAULT_TTL = 10.0  # seconds


class Registry(Protocol):
    """Leases of running instances.

    Every instance holds its own lease, under its `(service, instance_id)`. What is read is at
    most one lease old: an instance whose lease ran out is not returned. Changes are pushed for
    speed and may be lost; `read` is the truth. Every method raises `Unavailable` when the
    registry cannot be reached, and may be called again then.
    """

    async def renew(self, instance: Instance, ttl: float = DEFAULT_TTL) -> bool:
        """Write the whole record and its lease for `ttl` seconds, in one atomic step.

        The first call registers; a registry that lost everything is whole again after one beat
        of everybody. Watchers are told if anything but the measurements (`loop_lag`,
        `in_flight`) changed.

        False means that it was ignored, as news from the past: the place is held by an
        incarnation that started later (a process that was paused cannot take its place back
        from its successor), or this incarnation has moved on already (it deregistered, or is in
        a later state).
        """

    async def deregister(self, instance: Instance) -> bool:
        """Remove the lease, if it is still held by this incarnation. True if it was removed.

        It is final: a beat of this incarnation that arrives late is ignored.
        """

    async def read(self) -> Sequence[Instance]:
        """Every instance that holds a lease now, of all services."""

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[Instance]]:
        """Open a stream of instances as they change; one that left is in state `GONE`.

        Once the block is entered no later change is missed while the connection stands. The
        iterator raises `Unavailable` when it breaks.
        """

    async def aclose(self) -> None:
        """Give back connections. Leases stay until they run out. Calling it twice is fine."""
