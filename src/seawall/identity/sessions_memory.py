"""Sessions inside this process: the reference of the contract, and the default of tests."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from seawall.clock import SYSTEM, Clock
from seawall.identity.sessions import (
    Session,
    SessionConflict,
    SessionLost,
    SessionRules,
    new_session_id,
    stored_name,
    written,
)

# When there are more, the one unused for the longest time is forgotten. 10,000 of the largest
# are 160 MB, of usual ones 5 MB.
MAX_SESSIONS = 10_000


@dataclass(slots=True)
class _Kept:
    document: bytes
    version: int
    born: float
    until: float


class _Shelf(OrderedDict[str, _Kept]):
    """What the holders of one name share, the one used last at the end."""


_SHELVES: WeakValueDictionary[str, _Shelf] = WeakValueDictionary()


class MemorySessions:
    """The store `name` of this process. See `seawall.identity.sessions.Sessions`."""

    def __init__(
        self, name: str = "default", rules: SessionRules | None = None, *, clock: Clock = SYSTEM
    ) -> None:
        self._rules = rules or SessionRules()
        self._clock = clock
        self._shelf = _SHELVES.setdefault(name, _Shelf())

    async def create(self, data: Mapping[str, Any]) -> Session:
        return self._put(data, 1, self._clock.now())

    async def load(self, session_id: str) -> Session | None:
        kept = self._kept(session_id)
        if kept is None:
            return None
        kept.until = self._until(kept.born)
        self._shelf.move_to_end(stored_name(session_id) or "")
        return Session(session_id, json.loads(kept.document), kept.version)

    async def save(self, session: Session, data: Mapping[str, Any]) -> Session:
        document = written(data)
        kept = self._loaded(session)
        kept.document, kept.version = document, kept.version + 1
        kept.until = self._until(kept.born)
        return Session(session.session_id, json.loads(document), kept.version)

    async def rotate(self, session: Session, data: Mapping[str, Any]) -> Session:
        document = written(data)
        kept = self._loaded(session)
        rotated = self._put(json.loads(document), kept.version + 1, kept.born)
        await self.end(session.session_id)
        return rotated

    async def end(self, session_id: str) -> None:
        self._shelf.pop(stored_name(session_id) or "", None)

    async def aclose(self) -> None:
        """Nothing to give back."""

    def _put(self, data: Mapping[str, Any], version: int, born: float) -> Session:
        session_id = new_session_id()
        document = written(data)
        kept = _Kept(document, version, born, self._until(born))
        self._shelf[stored_name(session_id) or ""] = kept
        while len(self._shelf) > MAX_SESSIONS:
            self._shelf.popitem(last=False)
        return Session(session_id, json.loads(document), version)

    def _kept(self, session_id: str) -> _Kept | None:
        name = stored_name(session_id) or ""
        kept = self._shelf.get(name)
        if kept is not None and kept.until <= self._clock.now():
            del self._shelf[name]
            return None
        return kept

    def _loaded(self, session: Session) -> _Kept:
        kept = self._kept(session.session_id)
        if kept is None:
            raise SessionLost("there is no such session any more")
        if kept.version != session.version:
            raise SessionConflict("somebody else saved this session")
        return kept

    def _until(self, born: float) -> float:
        return min(self._clock.now() + self._rules.idle, born + self._rules.lifetime)

    def __repr__(self) -> str:
        return f"<MemorySessions {len(self._shelf)} sessions>"
