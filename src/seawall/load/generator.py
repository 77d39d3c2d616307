"""Starts each request at its time and waits for none of them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.load.report import Sample

# More requests than this under way at once means that the system stands still. Further ones
# count as failed without being sent, so that the generator does not run out of memory or
# sockets; 1,000 is below the usual limit of 1,024 open files.
MAX_IN_FLIGHT = 1000


@dataclass(frozen=True, slots=True)
class Attempted:
    """What an act reports of itself."""

    kind: str
    first_ok: bool
    ok: bool
    attempts: int = 1
    detail: str = ""


Act = Callable[[int], Awaitable[Attempted]]


class Generator:
    """Runs `act(number)` at each of `times` (seconds from the start of `run`).

    An act reports its failures; one that raises is a bug of the caller and ends the run.
    """

    def __init__(
        self,
        times: Sequence[float],
        act: Act,
        *,
        clock: Clock = SYSTEM,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self._times = times
        self._act = act
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._began = 0.0
        self.samples: list[Sample] = []

    async def run(self) -> list[Sample]:
        """Return the samples, in the order in which they ended, once all acts have."""
        self._began = self._clock.now()
        async with Tasks() as tasks:
            for number, intended in enumerate(self._times):
                wait = intended - self._elapsed()
                if wait > 0:
                    await self._clock.sleep(wait)
                if len(tasks) >= self._max_in_flight:
                    self._refuse(intended)
                else:
                    tasks.start(self._perform(number, intended))
            await tasks.join()
        return self.samples

    def _elapsed(self) -> float:
        return self._clock.now() - self._began

    def _refuse(self, intended: float) -> None:
        now = self._elapsed()
        self.samples.append(
            Sample("unsent", intended, now, now, False, False, 0, "too many under way")
        )

    async def _perform(self, number: int, intended: float) -> None:
        started = self._elapsed()
        done = await self._act(number)
        self.samples.append(
            Sample(
                done.kind,
                intended,
                started,
                self._elapsed(),
                done.first_ok,
                done.ok,
                done.attempts,
                done.detail,
            )
        )
