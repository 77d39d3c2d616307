"""What the admin API offers about dead letters: list, show, edit, redrive, purge."""

from base64 import b64decode
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from seawall.errors import Misconfigured, SeawallError
from seawall.messaging import deadletter
from seawall.messaging.base import DeadLetter, Subscription, Transport
from seawall.messaging.deadletter import Where
from seawall.messaging.grouping import Tally
from seawall.runtime.admin import Answer, Answerer, Question
from seawall.runtime.fleets import UnknownName
from seawall.runtime.message_reach import Reach, named, number
from seawall.runtime.message_rows import cause_row, error_row, letter_row, whole_letter_row

MOST_SHOWN = 1_000  # letters in one list
MOST_WHOLE = 20  # letters with their bodies, of 8 MB each at most, in one answer

Chosen = Sequence[tuple[Subscription, str]]


class DeadLetters:
    """Answers questions about dead letters, and works them off."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def routes(self) -> Mapping[tuple[str, str], Answerer]:
        return {
            ("GET", "/v1/dlq"): self.list_letters,
            ("GET", "/v1/dlq/letters"): self.whole_letters,
            ("POST", "/v1/dlq/edit"): self.edit,
            ("POST", "/v1/dlq/redrive"): self.redrive,
            ("POST", "/v1/dlq/purge"): self.purge,
        }

    async def list_letters(self, question: Question) -> Answer:
        """Letters that fit, counted by cause; the oldest of them singly if `show` says how many."""
        where = _where(question.query)
        show = number(question.one("show", "0"), "show", MOST_SHOWN)
        async with self._reach.broker() as transport:
            meant = await self._reach.meant(transport, question.one("topic"), question.one("group"))
            tally = Tally()
            shown: list[dict[str, Any]] = []
            async for letter in deadletter.letters(transport, list(meant), where):
                tally.add(letter)
                if len(shown) < show:
                    shown.append(letter_row(letter))
        return {
            "schema": "seawall.dlq/1",
            "total": tally.total,
            "groups": len(meant),
            "causes": [cause_row(each) for each in tally.causes()],
            "letters": shown,
        }

    async def whole_letters(self, question: Question) -> Answer:
        """Letters with all that is known of them."""
        async with self._reach.broker() as transport:
            found = await self._found(transport, question.query)
        return {
            "schema": "seawall.dlq-letters/1",
            "letters": [whole_letter_row(letter) for letter in found],
        }

    async def _found(
        self, transport: Transport, query: Mapping[str, Sequence[str]]
    ) -> list[DeadLetter]:
        where = _where(query)
        if not where.ids:
            raise Misconfigured("which dead letter?", fix="seawall dlq ls shows their ids")
        topic, group = (str((query.get(name) or [""])[0]) for name in ("topic", "group"))
        meant = await self._reach.meant(transport, topic, group)
        found: list[DeadLetter] = []
        async for letter in deadletter.letters(transport, list(meant), where):
            found.append(letter)
            if len(found) == MOST_WHOLE:
                break
        if not found:
            names = ", ".join(sorted(where.ids))
            raise UnknownName(f"no dead letter is called {names}; seawall dlq ls --letters lists")
        return found

    async def edit(self, question: Question) -> Answer:
        values = question.body
        try:
            body = b64decode(str(values.get("body", "")), validate=True)
        except ValueError:
            raise Misconfigured("the body is not base64") from None
        query = {name: [str(values.get(name) or "")] for name in ("id", "topic", "group")}
        async with self._reach.broker() as transport:
            found = await self._found(transport, query)
            if len(found) > 1:
                named = "; ".join(_described(letter) for letter in found)
                raise Misconfigured(
                    f"{query['id'][0]} names {len(found)} dead letters: {named}",
                    fix="name one by its own id, and --topic and --group if need be",
                )
            changed = await deadletter.edit(transport, found[0], body, clock=self._reach.clock)
        return {"schema": "seawall.dlq-edit/1", **letter_row(changed)}

    async def redrive(self, question: Question) -> Answer:
        return self._work(question, "redrive")

    async def purge(self, question: Question) -> Answer:
        return self._work(question, "purge")

    async def _work(self, question: Question, what: str) -> AsyncIterator[Mapping[str, Any]]:
        """How far it is, line by line; the last line says that it is finished, or why not."""
        values, dry = question.body, question.body.get("dry_run") is True
        done = deadletter.Progress(0, 0)

        def line(**more: Any) -> Mapping[str, Any]:
            counts = {"done": done.done, "total": done.total}
            return {"schema": "seawall.dlq-work/1", "what": what, "dry_run": dry, **counts, **more}

        try:
            where = _where(_lists(values))
            if where.everything and values.get("all") is not True:
                raise Misconfigured("which dead letters?", fix="ids, a filter, or --all")
            async with self._reach.broker() as transport:
                meant = await self._reach.meant(transport, *named(values))
                limit, rate = _amount(values, "limit"), _amount(values, "rate")
                chosen = await deadletter.choose(
                    transport, list(meant), where, None if limit is None else int(limit)
                )
                done = deadletter.Progress(0, len(chosen))
                yield line(groups=_counted(chosen))
                if not dry:
                    async for step in self._steps(transport, what, chosen, rate):
                        done = step
                        yield line()
            yield line(finished=True)
        except SeawallError as error:
            yield line(finished=False, **error_row(error))

    def _steps(
        self, transport: Transport, what: str, chosen: Chosen, rate: float | None
    ) -> AsyncIterator[deadletter.Progress]:
        if what == "purge":
            return deadletter.purge(transport, chosen)
        return deadletter.redrive(transport, chosen, rate=rate, clock=self._reach.clock)


def _where(query: Mapping[str, Sequence[str]]) -> Where:
    def one(name: str) -> str:
        return str((query.get(name) or [""])[0])

    try:
        since = float(one("since") or 0)
    except ValueError:
        raise Misconfigured(f"since is seconds since 1970, not {one('since')!r}") from None
    return Where(
        ids=frozenset(filter(None, map(str, query.get("id", ())))),
        reason=one("reason"),
        since=since,
        match=one("match"),
    )


def _lists(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """A body's values as a query has them."""
    return {
        name: [str(each) for each in (value if isinstance(value, list) else [value])]
        for name, value in values.items()
        if value is not None
    }


def _amount(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    if value is not None and not isinstance(value, int | float):
        raise Misconfigured(f"{name} is a number, not {value!r}")
    return value


def _counted(chosen: Chosen) -> list[dict[str, Any]]:
    counts: dict[Subscription, int] = {}
    for subscription, _ in chosen:
        counts[subscription] = counts.get(subscription, 0) + 1
    return [
        {"topic": each.topic, "group": each.group, "count": count} for each, count in counts.items()
    ]


def _described(letter: DeadLetter) -> str:
    return f"{letter.letter_id} of {letter.subscription.topic} / {letter.subscription.group}"
