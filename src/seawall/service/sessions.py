"""Server-side sessions for browsers: a random name in a cookie, the data in the session store.

    sessions = orders.sessions()

    @orders.post("/login")
    async def login(form: Login, session: Annotated[BrowserSession, sessions.current]) -> None:
        await session.log_in({"user": ...})

Nothing is stored, and no cookie set, before a handler asks for it.
"""

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import Depends, Request, Response

from seawall.errors import Misconfigured
from seawall.identity.sessions import Session, SessionRules, Sessions, open_sessions


class BrowserSession:
    """The session of the browser that asks; empty if it has none."""

    def __init__(
        self, owner: "CookieSessions", session: Session | None, response: Response, *, secure: bool
    ) -> None:
        self._owner = owner
        self._session = session
        self._response = response
        self._secure = secure

    @property
    def exists(self) -> bool:
        return self._session is not None

    @property
    def data(self) -> Mapping[str, Any]:
        """What was saved last; change a copy and `save` it."""
        return {} if self._session is None else self._session.data

    async def save(self, data: Mapping[str, Any]) -> None:
        """Keep `data`. Raises `SessionConflict` if another request saved meanwhile."""
        store = self._owner.store
        if self._session is None:
            self._enter(await store.create(data))
        else:
            self._session = await store.save(self._session, data)

    async def log_in(self, data: Mapping[str, Any]) -> None:
        """Keep `data` under a new name, so that a name known before has no rights now.

        For every change of rights.
        """
        store = self._owner.store
        if self._session is None:
            self._enter(await store.create(data))
        else:
            self._enter(await store.rotate(self._session, data))

    async def end(self) -> None:
        """Forget the session and its cookie."""
        if self._session is not None:
            await self._owner.store.end(self._session.session_id)
            self._session = None
        self._response.delete_cookie(
            self._owner.cookie, path="/", secure=self._secure, httponly=True
        )

    def _enter(self, session: Session) -> None:
        self._session = session
        self._response.set_cookie(
            self._owner.cookie,
            session.session_id,
            max_age=int(self._owner.rules.lifetime),
            path="/",
            secure=self._secure,
            httponly=True,
            samesite=self._owner.same_site,
        )


class CookieSessions:
    """The sessions of one service. The store opens when the service starts."""

    def __init__(
        self, cookie: str, rules: SessionRules, same_site: Literal["lax", "strict", "none"]
    ) -> None:
        self.cookie = cookie
        self.rules = rules
        self.same_site = same_site
        self._store: Sessions | None = None

    def open(self, url: str) -> None:
        """Called by the service when it starts."""
        self._store = open_sessions(url, self.rules)

    async def close(self) -> None:
        """Calling it twice is fine."""
        if self._store is not None:
            store, self._store = self._store, None
            await store.aclose()

    @property
    def store(self) -> Sessions:
        """The store itself. Raises `Misconfigured` before the service starts."""
        if self._store is None:
            raise Misconfigured("the session store is not open", fix="it opens at start")
        return self._store

    @property
    def current(self) -> Any:
        """FastAPI dependency: `session: Annotated[BrowserSession, sessions.current]`."""
        return Depends(self._of_request)

    async def _of_request(self, request: Request, response: Response) -> BrowserSession:
        name = request.cookies.get(self.cookie)
        session = None if name is None else await self.store.load(name)
        proto = request.headers.get("x-forwarded-proto", request.url.scheme)
        return BrowserSession(self, session, response, secure=proto == "https")
