"""Working off dead letters: choose some, send them to their group again, change or delete them.

All of it is done with what every transport has; a choice is made once, at the start, so letters
that die meanwhile, perhaps the same ones again, are not of it.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from seawall.clock import SYSTEM, Clock
from seawall.errors import Misconfigured, Refused
from seawall.messaging.base import DeadLetter, Subscription, Transport

# Letters read at a time. Some brokers read all of them for one page, so pages are large; but a
# page is in memory, with its bodies.
PAGE = 500

# Letters that one step redrives or purges where nobody asked for a slower pace.
STEP = 200

# Letters that one choice looks at. Brokers hold 100,000 a group at most, where they have a bound.
MOST = 1_000_000


ROUNDING = 0.002  # seconds: most brokers keep milliseconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Which letters are meant; what is empty leaves nobody out."""

    ids: frozenset[str] = frozenset()  # letter ids or message ids
    reason: str = ""
    since: float = 0.0  # died at this time or later: wall clock, seconds since 1970
    match: str = ""  # in the error, a header's value or the body; upper and lower case alike

    @property
    def everything(self) -> bool:
        return not (self.ids or self.reason or self.since or self.match)

    def fits(self, letter: DeadLetter) -> bool:
        if self.ids and not {letter.letter_id, letter.message.id} & self.ids:
            return False
        if self.reason and letter.reason != self.reason:
            return False
        if letter.died_at < self.since:
            return False
        return not self.match or _contains(letter, self.match.casefold())


def _contains(letter: DeadLetter, text: str) -> bool:
    message = letter.message
    texts = (letter.error, message.id, message.key or "", *message.headers.values())
    if any(text in each.casefold() for each in texts):
        return True
    return text in message.body.decode(errors="replace").casefold()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long piece of work is."""

    done: int
    total: int


async def letters(
    transport: Transport,
    subscriptions: Sequence[Subscription],
    where: Where,
    size: int = PAGE,
) -> AsyncIterator[DeadLetter]:
    """The letters that are meant, of one subscription after another, oldest first."""
    for subscription in subscriptions:
        after: str | None = None
        for _ in range(MOST // size):
            page = await transport.dead_letters(subscription, after=after, limit=size)
            for letter in page:
                if where.fits(letter):
                    yield letter
            if not page:
                break
            after = page[-1].letter_id


async def choose(
    transport: Transport,
    subscriptions: Sequence[Subscription],
    where: Where,
    limit: int | None = None,
) -> list[tuple[Subscription, str]]:
    """The places of letters that are meant: few bytes each, so all of them fit in memory."""
    chosen: list[tuple[Subscription, str]] = []
    if limit is not None and limit <= 0:
        return chosen
    async for letter in letters(transport, subscriptions, where):
        chosen.append((letter.subscription, letter.letter_id))
        if limit is not None and len(chosen) >= limit:
            break
    return chosen


async def redrive(
    transport: Transport,
    chosen: Sequence[tuple[Subscription, str]],
    *,
    rate: float | None = None,
    clock: Clock = SYSTEM,
) -> AsyncIterator[Progress]:
    """Send letters to their own group again, as attempt 1, under their ids; `rate` a second."""
    if rate is not None and rate <= 0:
        raise Misconfigured(f"a rate of {rate}/s redrives nothing", fix="a number above 0")
    began, seen, done = clock.now(), 0, 0
    for subscription, ids in _steps(chosen, step_of(rate)):
        if rate is not None:
            await clock.sleep(max(0.0, began + seen / rate - clock.now()))
        done += await transport.redrive(subscription, ids)
        seen += len(ids)
        yield Progress(done, len(chosen))


async def purge(
    transport: Transport, chosen: Sequence[tuple[Subscription, str]]
) -> AsyncIterator[Progress]:
    """Delete letters for good."""
    done = 0
    for subscription, ids in _steps(chosen, STEP):
        done += await transport.purge(subscription, ids)
        yield Progress(done, len(chosen))


def step_of(rate: float | None) -> int:
    """How many letters one step takes, so that a pace is kept within a fifth of a second."""
    return STEP if rate is None else max(1, min(STEP, int(rate / 5)))


def _steps(
    chosen: Sequence[tuple[Subscription, str]], size: int
) -> list[tuple[Subscription, list[str]]]:
    steps: list[tuple[Subscription, list[str]]] = []
    for subscription, letter_id in chosen:
        if not steps or steps[-1][0] != subscription or len(steps[-1][1]) >= size:
            steps.append((subscription, []))
        steps[-1][1].append(letter_id)
    return steps


async def edit(
    transport: Transport, letter: DeadLetter, body: bytes, *, clock: Clock = SYSTEM
) -> DeadLetter:
    """Give a letter another body; its message id, headers and story stay.

    The changed letter is stored first and the old one removed after that: a crash in between
    leaves both. If the old one is gone meanwhile, somebody redrove or purged it, and the changed
    one is taken back. Its place, and so its letter id, is a new one.
    """
    message = replace(letter.message, body=body)
    changed = replace(letter, letter_id="", message=message, edited_at=clock.wall())
    await transport.bury(changed)
    if not await transport.purge(letter.subscription, [letter.letter_id]):
        await _take_back(transport, changed)
        raise Refused(f"letter {letter.letter_id} is gone: somebody redrove or purged it")
    return changed


async def _take_back(transport: Transport, changed: DeadLetter) -> None:
    same = Where(ids=frozenset({changed.message.id}), since=changed.died_at - ROUNDING)
    ours = [
        each.letter_id
        async for each in letters(transport, [changed.subscription], same)
        if abs(each.edited_at - changed.edited_at) < ROUNDING
    ]
    await transport.purge(changed.subscription, ours)
