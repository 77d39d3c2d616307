"""A simulated card processor: another company's system, with its own ledger and its own commits.

It is slow, it declines cards by their number, and like real ones it knows idempotency keys: the
same key is the same charge, however often it is asked for and whoever died in between.

    4000 0000 0000 0002   declined
    4000 0000 0000 9995   declined: insufficient funds
    4000 0000 0000 0119   fails at the first two attempts of each key, then succeeds
    any other             accepted
"""

from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from seawall import Database, NotSent
from seawall.clock import SYSTEM, Clock

DECLINED = {
    "4000000000000002": "card declined",
    "4000000000009995": "insufficient funds",
}
FLAKY = "4000000000000119"
FLAKY_FAILURES = 2


class Base(DeclarativeBase):
    pass


class State(StrEnum):
    TRYING = "trying"  # the flaky card: nothing was taken yet
    CHARGED = "charged"
    DECLINED = "declined"
    REFUNDED = "refunded"
    VOID = "void"  # refunded before it was charged: never will be


class Entry(Base):
    """The processor's ledger: one row a key. The money of a row was taken if `taken` is set."""

    __tablename__ = "processor_ledger"

    key: Mapped[str] = mapped_column(sa.String(60), primary_key=True)
    state: Mapped[str] = mapped_column(sa.String(10))
    cents: Mapped[int]
    card_end: Mapped[str] = mapped_column(sa.String(4))
    reason: Mapped[str | None] = mapped_column(sa.String(60))
    taken: Mapped[int] = mapped_column(default=0)  # how many times money was taken
    returned: Mapped[int] = mapped_column(default=0)  # how many times it was given back
    calls: Mapped[int] = mapped_column(default=1)


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    reason: str | None


class ProcessorDown(NotSent):
    """The processor could not take the call now."""


class Processor:
    """The processor's door. `seconds` is how long it takes to think."""

    def __init__(self, database: Database, seconds: float, clock: Clock = SYSTEM) -> None:
        self._database = database
        self._seconds = seconds
        self._clock = clock

    async def charge(self, key: str, cents: int, card: str) -> Verdict:
        """Take the money, once for each key. Raises `ProcessorDown` if it cannot be asked now."""
        await self._clock.sleep(self._seconds)
        async with self._database.transaction() as session:
            entry = await session.get(Entry, key, with_for_update=True)
            if entry is None:
                entry = _first_call(key, cents, card)
                session.add(entry)
            else:
                _further_call(entry)
            verdict = Verdict(State(entry.state), entry.reason)
        if verdict.state is State.TRYING:
            raise ProcessorDown("the processor is busy", retry_after=0.1)
        return verdict

    async def refund(self, key: str) -> Verdict:
        """Give the money back if it was taken, and make sure that it never will be again."""
        await self._clock.sleep(self._seconds)
        async with self._database.transaction() as session:
            entry = await session.get(Entry, key, with_for_update=True)
            if entry is None:
                entry = Entry(key=key, state=State.VOID.value, cents=0, card_end="")
                session.add(entry)
            elif entry.state == State.CHARGED:
                entry.state = State.REFUNDED.value
                entry.returned += 1
            elif entry.state == State.TRYING:
                entry.state = State.VOID.value
            return Verdict(State(entry.state), entry.reason)


def _first_call(key: str, cents: int, card: str) -> Entry:
    entry = Entry(key=key, cents=cents, card_end=card[-4:], state=State.CHARGED.value, taken=1)
    if reason := DECLINED.get(card):
        entry.state, entry.reason, entry.taken = State.DECLINED.value, reason, 0
    elif card == FLAKY:
        entry.state, entry.taken, entry.calls = State.TRYING.value, 0, 1
    return entry


def _further_call(entry: Entry) -> None:
    entry.calls += 1
    if entry.state == State.TRYING and entry.calls > FLAKY_FAILURES:
        entry.state = State.CHARGED.value
        entry.taken += 1
