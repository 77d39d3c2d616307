"""Carries sagas out: every transition is one transaction.

In it are the inbox row of the answer that caused it, the saga's new state, the outbox rows of the
commands that follow, and the timers. Whatever dies at whatever line, that transaction is there
or not: an answer comes again until it was taken in, a command leaves until the broker has it.

Timers are in the database too. Each replica of the service looks for those that are due; a saga
that two of them take up is moved by one, and the other finds that there is nothing to do.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import msgspec
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from seawall.clock import SYSTEM, Clock
from seawall.errors import Misconfigured, NotSent, OutcomeUnknown
from seawall.facts import Observer, ignore
from seawall.messaging import outbox
from seawall.messaging.base import Delivery, Message
from seawall.messaging.consumer import ConsumerConfig
from seawall.messaging.outcomes import Retry
from seawall.messaging.policy import RetryPolicy
from seawall.messaging.tables import metadata
from seawall.sagas import store
from seawall.sagas.desk import NAME, Desk
from seawall.sagas.host import Database, Host
from seawall.sagas.intervention import Fail, Intervention, Resume, Skip, intervene
from seawall.sagas.progress import (
    Answered,
    Kind,
    Move,
    Phase,
    Progress,
    Send,
    Started,
    StepState,
    advance,
    begin,
)
from seawall.sagas.saga import Data, Saga, Step, commands
from seawall.sagas.timeline import Cause, lines
from seawall.telemetry import tracing
from seawall.wire.envelope import Envelope, to_headers

# How often each replica looks for timers that are due. They are there for when something went
# wrong, after seconds to minutes; one indexed query twice a second is nothing.
LOOK = 0.5  # seconds

# Sagas moved in one look, each in its own transaction. The rest waits for the next.
BATCH = 100

# Taking in an answer is one short transaction, so a replica that still has it after this time
# died with it.
ANSWER_CONFIG = ConsumerConfig(lease=10.0)

# An answer fails to be taken in only while the database is away; about half an hour of that
# before the answer is a dead letter and the step's timer decides.
ANSWER_RETRY = RetryPolicy(attempts=120, cap=30.0)

# A saga's id, its step's name and this separator make a command's id.
SEPARATOR = ":"


@dataclass(frozen=True, slots=True)
class SagaMoved:
    """A saga made a transition. Given to hooks, in its transaction, and to the observer."""

    name: str
    saga_id: str
    phase: Phase
    was: Phase
    revision: int
    steps: Mapping[str, StepState]
    what: tuple[str, ...]  # lines of the timeline
    reason: str | None
    at: float  # wall clock, seconds since 1970


@dataclass(frozen=True, slots=True)
class SagaStuck:
    """A command that must not be given up keeps failing; somebody has to look."""

    name: str
    saga_id: str
    what: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TimersWait:
    """The database could not be asked for timers that are due; they are looked at later."""

    name: str
    error: str


Hook = Callable[[AsyncSession, SagaMoved, Data], Awaitable[None]]


class Flow(Generic[Data]):
    """The sagas of one name in one service."""

    def __init__(
        self,
        service: str,
        sagas: Sequence[Saga[Data]],
        *,
        clock: Clock = SYSTEM,
        observer: Observer = ignore,
    ) -> None:
        self._service = service
        self._newest = max(sagas, key=lambda saga: saga.version)
        self._versions = {saga.version: saga for saga in sagas}
        if len(self._versions) < len(sagas) or len({saga.name for saga in sagas}) > 1:
            raise Misconfigured(f"sagas of one name and different versions, not {list(sagas)}")
        self._clock = clock
        self._observer = observer
        self._hooks: list[Hook[Data]] = []

    @classmethod
    def attach(
        cls,
        service: Host,
        database: Database,
        saga: Saga[Data],
        *older: Saga[Data],
        clock: Clock = SYSTEM,
    ) -> "Flow[Data]":
        """Have `service` carry out sagas of this kind, kept in its `database`.

        `older` versions stay attached until no saga of them is open.
        """
        flow = cls(service.name, [saga, *older], clock=clock, observer=service.observer)

        async def keep_time() -> None:
            await flow.keep_time(database)

        for topic, model in commands(saga).items():
            service.publishes(topic, model)
        database.add_tables(metadata)
        service.worker(flow.answers, retry=ANSWER_RETRY, config=ANSWER_CONFIG)(flow.take)
        service.background(keep_time)
        desk = service.offer(NAME, Desk(database))
        assert isinstance(desk, Desk), "nobody else offers sagas"
        desk.add(flow)
        return flow

    @property
    def name(self) -> str:
        return self._newest.name

    @property
    def answers(self) -> str:
        """The queue on which participants answer."""
        return f"{self._service}.saga.{self.name}"

    def __repr__(self) -> str:
        return f"<Flow {self.name} versions {sorted(self._versions)}>"

    def on_move(self, hook: Hook[Data]) -> Hook[Data]:
        """Call `hook(tx, moved, data)` in the transaction of every transition, this one included
        that starts the saga. Its failure undoes the transition, which is then tried again."""
        self._hooks.append(hook)
        return hook

    async def start(self, tx: AsyncSession, saga_id: str, data: Data) -> bool:
        """Begin a saga in the caller's transaction: it exists if, and only if, `tx` commits.

        False, and nothing changed, if there is a saga of that id already.
        """
        if SEPARATOR in saga_id or not 0 < len(saga_id) <= store.LONGEST_ID:
            raise Misconfigured(
                f"{saga_id!r} cannot name a saga",
                fix=f"1 to {store.LONGEST_ID} characters without {SEPARATOR!r}",
            )
        saga, now = self._newest, self._clock.wall()
        before = begin(saga)
        move = advance(saga, before, Started(), now)
        what = lines(saga, before, Started(), move)
        text = data.model_dump_json()
        if not await store.create(tx, saga, saga_id, text, move.progress, what, now):
            return False
        fact = _fact(saga, saga_id, before, move, 1, what, now)
        await self._follow(tx, saga, data, move.sends, fact)
        return True

    async def take(self, delivery: Delivery, tx: AsyncSession) -> None:
        """Take in a participant's answer."""
        parsed = _answer(delivery.message)
        if parsed is not None:
            await self._happen(tx, *parsed)

    async def look(self, database: Database) -> int:
        """Move the sagas whose timers are due, each in its own transaction; return how many."""
        async with database.read() as session:
            found = await store.due(session, self.name, self._clock.wall(), BATCH)
        moved = 0
        for saga_id, event in found:
            try:
                async with database.transaction() as tx:
                    moved += await self._happen(tx, saga_id, event) is True
            except (NotSent, OutcomeUnknown, Retry, SQLAlchemyError) as error:
                # One that fails must not keep the others from their turn.
                self._observer(TimersWait(self.name, f"{saga_id}: {error}"))
        return moved

    async def keep_time(self, database: Database) -> None:
        """Look for due timers until cancelled; outlives a database that goes away."""
        while True:
            try:
                await self.look(database)
            except (NotSent, OutcomeUnknown, SQLAlchemyError, OSError) as error:
                self._observer(TimersWait(self.name, str(error)))
            await self._clock.sleep(LOOK)

    async def find(self, session: AsyncSession, saga_id: str) -> store.Stored | None:
        """Where that saga is; None if there is none."""
        found = await store.load(session, saga_id)
        return found if found is not None and found.name == self.name else None

    async def timeline(self, session: AsyncSession, saga_id: str) -> list[store.Entry]:
        """What happened to that saga, oldest first."""
        return await store.timeline(session, saga_id)

    async def count(self, session: AsyncSession) -> dict[Phase, int]:
        """How many sagas there are in each phase."""
        return await store.count(session, self.name)

    async def intervene(self, tx: AsyncSession, saga_id: str, act: Intervention) -> bool:
        """Do to that saga what a person asks for; False if there is none. Raises `Refused`."""
        return await self._happen(tx, saga_id, act) is not None

    async def _happen(self, tx: AsyncSession, saga_id: str, cause: Cause) -> bool | None:
        """Let it happen; True if that moved the saga, None if there is no such saga."""
        stored = await store.load(tx, saga_id, lock=True)
        if stored is None or stored.name != self.name:
            return None
        saga = self._versions.get(stored.version)
        if saga is None:  # a newer replica began it, during a release: leave it to that one
            raise Retry(after=1.0, reason=f"saga {self.name} version {stored.version} is not here")
        now = self._clock.wall()
        if isinstance(cause, Resume | Skip | Fail):
            move = intervene(saga, stored.progress, cause, now)
        else:
            move = advance(saga, stored.progress, cause, now)
        if move.stale:
            return False
        what = lines(saga, stored.progress, cause, move)
        await store.save(tx, saga, stored, move.progress, what, now)
        data = saga.data.model_validate_json(stored.data)
        fact = _fact(saga, saga_id, stored.progress, move, stored.revision + 1, what, now)
        await self._follow(tx, saga, data, move.sends, fact)
        return True

    async def _follow(
        self,
        tx: AsyncSession,
        saga: Saga[Data],
        data: Data,
        sends: Sequence[Send],
        fact: SagaMoved,
    ) -> None:
        """What comes of a transition, in its transaction."""
        for send in sends:
            await self._send(tx, saga, fact.saga_id, data, send, fact.at)
        for hook in self._hooks:
            await hook(tx, fact, data)
        self._observer(fact)
        if fact.phase is Phase.STUCK is not fact.was:
            self._observer(SagaStuck(self.name, fact.saga_id, fact.what))

    async def _send(
        self, tx: AsyncSession, saga: Saga[Data], saga_id: str, data: Data, send: Send, now: float
    ) -> None:
        step = saga.steps[send.step]
        topic, body = _command(step, send.kind, data)
        command_id = SEPARATOR.join((saga_id, step.name, send.kind, str(send.attempt)))
        extensions = {"replyto": self.answers}
        if (trace := tracing.current()) is not None:
            extensions |= trace.headers()
        envelope = Envelope(
            id=command_id,
            type=topic,
            source=self._service,
            time=now,
            subject=saga_id,
            extensions=extensions,
        )
        message = Message(command_id, body, to_headers(envelope), key=saga_id)
        await outbox.write(tx, topic, message, clock=self._clock)


def _fact(
    saga: Saga[Any],
    saga_id: str,
    before: Progress,
    move: Move,
    revision: int,
    what: tuple[str, ...],
    now: float,
) -> SagaMoved:
    after = move.progress
    return SagaMoved(
        name=saga.name,
        saga_id=saga_id,
        phase=after.phase,
        was=before.phase,
        revision=revision,
        steps={step.name: at.state for step, at in zip(saga.steps, after.steps, strict=True)},
        what=what,
        reason=after.reason,
        at=now,
    )


def _command(step: Step[Data], kind: Kind, data: Data) -> tuple[str, bytes]:
    if kind is Kind.DO:
        return step.command, step.ask(data).model_dump_json().encode()
    assert step.compensation is not None, "only steps with a compensation are undone"
    return step.compensation, (step.undo or step.ask)(data).model_dump_json().encode()


def _answer(message: Message) -> tuple[str, Answered] | None:
    """What an answer says; None if it answers no command of a saga."""
    parts = message.headers.get("ce-correlationid", "").split(SEPARATOR)
    if len(parts) != 4 or parts[2] not in tuple(Kind) or not parts[3].isdecimal():
        return None
    ok = message.headers.get("ce-outcome", "ok") == "ok"
    reason = "" if ok else _reason(message.body)
    return parts[0], Answered(parts[1], Kind(parts[2]), int(parts[3]), ok, reason)


def _reason(body: bytes) -> str:
    """Why a participant said no, if its answer says so."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    # What the database keeps of it: long enough for a person, short enough for every row.
    return str(said.get("reason", ""))[:500] if isinstance(said, dict) else ""
