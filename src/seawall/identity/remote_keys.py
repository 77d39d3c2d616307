"""The published keys of an issuer, kept fresh beside the requests and never waited for by them.

One task fetches: at the start, every few minutes, and when a token names a key that is not known,
then at most once in a while, so that made-up names cannot turn us against the issuer. Whatever
goes wrong, the keys at hand stay in use.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Self

from seawall.clock import SYSTEM, Clock
from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured, SeawallError, Unavailable
from seawall.facts import Observer, ignore
from seawall.identity.claims import KeysUnavailable, UnknownKey
from seawall.identity.keys import LocalKeys, VerifyKey, keys_from_bytes
from seawall.resilience.backoff import full_jitter

Fetch = Callable[[str], Awaitable[bytes]]

# The first wait after a failure, short since the issuer may be starting beside us.
RETRY_BASE = 0.2  # seconds; the waits grow up to the spacing

# The longest wait while no keys were ever read: until then nobody gets in.
FIRST_CAP = 1.0  # seconds

MAX_DOCUMENT = 256 * 1024  # bytes of a key set; usual ones have 1 to 5 KiB


@dataclass(frozen=True, slots=True)
class KeysFetched:
    """An issuer's keys were read; `changed` if they are others than before."""

    url: str
    keys: int
    changed: bool


@dataclass(frozen=True, slots=True)
class KeysNotFetched:
    """An issuer's keys could not be read; those at hand stay in use."""

    url: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteKeysConfig:
    refresh: float = 300.0  # seconds between fetches when all is well
    spacing: float = 10.0  # seconds from one reading to the next, whatever is asked for
    patience: float = 5.0  # seconds that one fetch may take

    def __post_init__(self) -> None:
        if not 0 < self.spacing <= self.refresh:
            raise Misconfigured("spacing is in seconds above 0, and no more than refresh")


class RemoteKeys:
    """The keys at `url`, for as long as the block is open. Entering does not wait for them.

    `fetch` returns the document's bytes or raises a `SeawallError`.
    """

    def __init__(
        self,
        url: str,
        fetch: Fetch,
        *,
        observer: Observer = ignore,
        clock: Clock = SYSTEM,
        rng: Random | None = None,
        config: RemoteKeysConfig | None = None,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._observer = observer
        self._clock = clock
        self._rng = rng or Random()
        self._config = config or RemoteKeysConfig()
        self._keys: LocalKeys | None = None
        self._document = b""
        self._wanted = asyncio.Event()
        self._first = asyncio.Event()
        self._tasks = Tasks()
        self.version = 0

    def find(self, kid: str | None, algorithm: str) -> VerifyKey:
        """See `seawall.identity.keys.Keys`. An unknown key is looked for soon."""
        if self._keys is None:
            self._wanted.set()
            raise KeysUnavailable(
                f"the keys at {self._url} were not read yet", retry_after=FIRST_CAP
            )
        try:
            return self._keys.find(kid, algorithm)
        except UnknownKey:
            self._wanted.set()
            raise

    async def read_once(self) -> None:
        """Return as soon as the keys were read for the first time."""
        await self._first.wait()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.start(self._keep(), name=f"keys of {self._url}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._tasks.__aexit__(kind, error, traceback)

    async def _keep(self) -> None:
        waits = self._waits()
        while True:
            self._wanted.clear()
            if await self._read():
                waits = self._waits()
                await self._clock.sleep(self._config.spacing)
                await self._due_or_wanted()
            else:
                await self._clock.sleep(next(waits))

    def _waits(self) -> Iterator[float]:
        spacing = self._config.spacing
        cap = min(FIRST_CAP, spacing) if self._keys is None else spacing
        return full_jitter(min(RETRY_BASE, cap), cap, self._rng)

    async def _due_or_wanted(self) -> None:
        rest = self._config.refresh * self._rng.uniform(0.8, 1.0) - self._config.spacing
        async with Tasks() as tasks:
            sides = (self._clock.sleep(rest), self._wanted.wait())
            await asyncio.wait(
                [tasks.start(side) for side in sides], return_when=asyncio.FIRST_COMPLETED
            )

    async def _read(self) -> bool:
        """Fetch once; True if the keys at hand are those of the issuer now."""
        try:
            async with asyncio.timeout(self._config.patience):
                document = await self._fetch(self._url)
            if len(document) > MAX_DOCUMENT:
                raise Unavailable(f"more than {MAX_DOCUMENT} bytes")
            keys = keys_from_bytes(document, public_only=True)
        except (SeawallError, TimeoutError, OSError) as exc:
            self._observer(KeysNotFetched(self._url, str(exc) or "no answer in time"))
            return False
        changed = document != self._document
        if changed:
            self._keys, self._document = keys, document
            self.version += 1
            self._first.set()
        self._observer(KeysFetched(self._url, len(keys), changed))
        return True

    def __repr__(self) -> str:
        return f"<RemoteKeys {self._url} {self._keys!r}>"
