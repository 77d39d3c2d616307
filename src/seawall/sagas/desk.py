"""Answers an operator's questions about the sagas of one service, and does what they ask.

Questions and answers are JSON objects; whoever asks was recognised before (by the service's
operations). An act is one transaction, like any other transition.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from seawall.errors import Misconfigured, Unavailable
from seawall.messaging.outcomes import Retry
from seawall.sagas import store
from seawall.sagas.host import Database
from seawall.sagas.intervention import Fail, Intervention, Resume, Skip
from seawall.sagas.progress import Phase, StepState

# The name under which a service offers it.
NAME = "sagas"

# Sagas in one list: more than a person reads. Those that matter most come first.
MOST = 1000
USUAL = 100

# Of what a person writes: as long as an answer's reason may be.
_LONGEST = 500  # characters

_OPEN = tuple(phase for phase in Phase if not phase.is_final)

Answer = dict[str, Any]


class Followed(Protocol):
    """The sagas of one name; `seawall.sagas.engine.Flow` is one."""

    @property
    def name(self) -> str: ...

    async def intervene(self, tx: AsyncSession, saga_id: str, act: Intervention) -> bool: ...

    async def timeline(self, session: AsyncSession, saga_id: str) -> list[store.Entry]: ...

    async def count(self, session: AsyncSession) -> dict[Phase, int]: ...


class Desk:
    """The sagas of all flows of one service."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._flows: dict[str, Followed] = {}

    def add(self, flow: "Followed") -> None:
        self._flows[flow.name] = flow

    async def __call__(self, question: Mapping[str, Any]) -> Answer:
        """`{"do": "ls" | "show" | "resume" | "skip" | "fail", ...}`.

        An act on, or a look at, a saga that is not here answers `{"saga": null}`. Raises
        `Misconfigured` for what is no question, `Refused` for an act that does not fit.
        """
        match question.get("do"):
            case "ls":
                return await self._list(question)
            case "show":
                return {"saga": await self._show(_text(question, "id"))}
            case "resume" | "skip" | "fail":
                return await self._act(_text(question, "id"), _act(question))
            case other:
                raise Misconfigured(f"{other!r} is nothing to do with sagas", fix=_FIX)

    async def _list(self, question: Mapping[str, Any]) -> Answer:
        phases = _phases(question.get("phases"))
        limit = question.get("limit", USUAL)
        if not isinstance(limit, int) or not 0 < limit <= MOST:
            raise Misconfigured(f"limit is a number from 1 to {MOST}, not {limit!r}")
        async with self._database.read() as session:
            found = await store.find(session, phases, tuple(self._flows), limit)
            counts = {name: await flow.count(session) for name, flow in self._flows.items()}
        return {
            "sagas": [
                {
                    "id": one.saga_id,
                    "name": one.name,
                    "version": one.version,
                    "phase": one.phase.value,
                    "waits_for": list(one.waits_for),
                    "reason": one.reason,
                    "started_at": one.started_at,
                    "moved_at": one.moved_at,
                }
                for one in found
            ],
            "counts": {
                name: {phase.value: number for phase, number in phases.items()}
                for name, phases in counts.items()
            },
        }

    async def _show(self, saga_id: str) -> Answer | None:
        async with self._database.read() as session:
            stored = await store.load(session, saga_id)
            flow = None if stored is None else self._flows.get(stored.name)
            if stored is None or flow is None:
                return None
            entries = await flow.timeline(session, saga_id)
        return {
            "id": saga_id,
            "name": stored.name,
            "version": stored.version,
            "phase": stored.progress.phase.value,
            "reason": stored.progress.reason,
            "started_at": stored.started_at,
            "moved_at": stored.moved_at,
            "deadline_at": stored.progress.deadline,
            "steps": [
                {
                    "name": name,
                    "state": at.state.value,
                    "attempts": at.attempts,
                    "next_at": at.due,
                    "open": at.state in (StepState.ASKED, StepState.UNDOING),
                }
                for name, at in zip(stored.names, stored.progress.steps, strict=True)
            ],
            "timeline": [{"at": entry.at, "what": entry.what} for entry in entries],
        }

    async def _act(self, saga_id: str, act: Intervention) -> Answer:
        async with self._database.read() as session:
            stored = await store.load(session, saga_id)
        flow = None if stored is None else self._flows.get(stored.name)
        if flow is None:
            return {"saga": None}
        try:
            async with self._database.transaction() as tx:
                await flow.intervene(tx, saga_id, act)
        except Retry as elsewhere:  # a replica of another release knows its version
            raise Unavailable(elsewhere.reason, retry_after=1.0) from elsewhere
        return {"saga": await self._show(saga_id)}


_FIX = "ls, show, resume, skip or fail"


def _phases(wanted: object) -> tuple[Phase, ...]:
    if wanted is None:
        return _OPEN
    known = [phase.value for phase in Phase]
    if not isinstance(wanted, list) or any(one not in known for one in wanted):
        raise Misconfigured(f"{wanted!r} are no phases", fix=", ".join(known))
    return tuple(Phase(one) for one in wanted)


def _act(question: Mapping[str, Any]) -> Intervention:
    by = _text(question, "by")
    if question["do"] == "resume":
        return Resume(by)
    reason = _text(question, "reason")
    if question["do"] == "skip":
        step = question.get("step") or ""
        return Skip(by, reason, str(step))
    return Fail(by, reason, force=question.get("force") is True)


def _text(question: Mapping[str, Any], name: str) -> str:
    said = question.get(name)
    if not isinstance(said, str) or not 0 < len(said.strip()) <= _LONGEST:
        raise Misconfigured(f"{name} is a text of 1 to {_LONGEST} characters, not {said!r}")
    return said.strip()
