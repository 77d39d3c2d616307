"""Whether a service fails more often since some of its processes run other code.

What gateways have counted since they began is what is usual for it. A process that runs other code
is held against that by its own count, or, if it has none, by what gateways count from now on: of
one of many, which they soon leave out, they see little. Where nobody asks, nothing is waited for.
"""

from collections.abc import Awaitable, Callable, Mapping

from seawall.clock import Clock
from seawall.runtime.asking import At
from seawall.runtime.autoscaler_figures import Series
from seawall.runtime.canary_verdict import Outcome, fails_more
from seawall.runtime.counted import outcome
from seawall.runtime.replica import Place

# A first request that fails fails at once; so long the new code is seen at work before the next
# process gets it.
WATCH = 1.0  # seconds

_LOOK = 0.25  # seconds

Gateways = Callable[[], Awaitable[Mapping[str, Series]]]
Process = Callable[[At], Awaitable[Series | None]]

# An overload is no matter of the code: it is not held against it.
_OVERLOAD = 'response_status_code="503"'


class Settling:
    """One reload of a service: call it after each place."""

    def __init__(self, service: str, gateways: Gateways, process: Process, clock: Clock) -> None:
        self._service = service
        self._gateways = gateways
        self._process = process
        self._clock = clock
        self._before: Outcome | None = None

    async def begin(self) -> None:
        """What is usual, before anything is touched."""
        self._before = await self._counted()

    async def __call__(self, place: Place) -> str:
        """Why the new code in that place is worse; nothing if it is not, as far as is known."""
        before, until = self._before, self._clock.now() + WATCH
        if before is None:
            return ""
        while True:
            await self._clock.sleep(_LOOK)
            offered = (await self._counted()).since(before)
            new = await self._own(place)
            if why := fails_more(before, offered if new is None else new):
                return why
            if not offered.requests or self._clock.now() >= until:
                return ""

    async def _own(self, place: Place) -> Outcome | None:
        told = None if place.at is None else await self._process(place.at)
        return outcome([told], but=_OVERLOAD) if told else None

    async def _counted(self) -> Outcome:
        told = (await self._gateways()).values()
        return outcome(told, f'service="{self._service}"', but=_OVERLOAD)
