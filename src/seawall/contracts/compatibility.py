"""What breaks whom when services go from one version to the next.

Services are released one by one, and messages wait in queues and among dead letters. So three
meetings count, and each is asked in `inclusion`:

    forward    what a new version writes, read by who still runs the old one
    backward   what an old version wrote, read by the new one
    together   what a new version writes, read by a new one

A fault that was there before is not reported: this is about the step. `faults` is about a state.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from seawall.contracts.contract import QUEUE, Consumed, Contract, Published, Schema
from seawall.contracts.inclusion import Gap, Rule, gaps


class Meeting(StrEnum):
    FORWARD = "forward"
    BACKWARD = "backward"
    TOGETHER = "together"


class Mode(StrEnum):
    """Which meetings are looked at: what may happen depends on who is released first."""

    FULL = "full"
    FORWARD = "forward"  # publishers first
    BACKWARD = "backward"  # consumers first

    def asks_for(self, meeting: Meeting) -> bool:
        return self is Mode.FULL or meeting in (self.value, Meeting.TOGETHER)


# Faults of a topic, beside the rules for its documents.
UNPUBLISHED = "topic-unpublished"  # nobody publishes it any more
ABANDONED = "group-abandoned"  # a group reads it no more, and what is published piles up


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault: what it is, who suffers, and how to do it without."""

    topic: str
    at: str
    rule: str
    meeting: str
    breaking: bool
    what: str
    cause: str  # "orders 2.0.0"
    breaks: tuple[str, ...]  # "mail 1.1.0"
    fix: str

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {
            "breaks": list(self.breaks)
        }


@dataclass(frozen=True, slots=True)
class _Side:
    """One end of a topic: whose, in which version, and the schema."""

    service: str
    name: str
    schema: Schema
    group: str = ""
    wrote: str = ""  # what of a writer is still to be read


def compare(
    old: Sequence[Contract],
    new: Sequence[Contract],
    *,
    mode: Mode = Mode.FULL,
    outsiders: bool = True,
) -> list[Finding]:
    """The faults that the step from `old` to `new` makes, the worst first.

    With `outsiders`, others than these services may read events and send jobs: to them, what the
    old contract of a topic's owner said is a promise.
    """
    before, after = _Topics(old), _Topics(new)
    found: list[Finding] = []
    for topic in sorted(before.names | after.names):
        met = [
            *_forward(topic, before, after, outsiders),
            *_backward(topic, before, after, outsiders),
        ]
        known = {(one.at, _plain(one.rule)) for one in met}
        together = _together(topic, before, after)
        met += [one for one in together if (one.at, _plain(one.rule)) not in known]
        found += (one for one in met if mode.asks_for(Meeting(one.meeting)))
        found += _topic_faults(topic, before, after, outsiders)
    return _sorted(found)


def faults(contracts: Sequence[Contract]) -> list[Finding]:
    """Where these services, as they are, do not understand each other."""
    topics = _Topics(contracts)
    met: list[Finding] = []
    for topic in sorted(topics.names):
        for writer in topics.writers(topic):
            for reader in topics.readers(topic):
                met += _meeting(topic, Meeting.TOGETHER, writer, reader, ())
    return _sorted(met)


class _Topics:
    """Contracts by topic."""

    def __init__(self, contracts: Iterable[Contract]) -> None:
        self._writers: dict[str, list[_Side]] = {}
        self._readers: dict[str, list[_Side]] = {}
        self.services = {one.service: str(one) for one in contracts}
        for contract in contracts:
            for published in contract.publishes:
                self._writers.setdefault(published.topic, []).append(_writer(contract, published))
            for consumed in contract.consumes:
                self._readers.setdefault(consumed.topic, []).append(_reader(contract, consumed))

    @property
    def names(self) -> set[str]:
        return self._writers.keys() | self._readers.keys()

    def writers(self, topic: str) -> Sequence[_Side]:
        return self._writers.get(topic, ())

    def readers(self, topic: str) -> Sequence[_Side]:
        return self._readers.get(topic, ())

    def writer(self, topic: str, like: _Side) -> _Side | None:
        return next((one for one in self.writers(topic) if one.service == like.service), None)

    def reader(self, topic: str, like: _Side) -> _Side | None:
        same = (one for one in self.readers(topic) if (one.service, one.group) == _key(like))
        return next(same, None)


def _key(side: _Side) -> tuple[str, str]:
    return side.service, side.group


def _writer(contract: Contract, published: Published) -> _Side:
    wrote = f"what {contract} wrote"
    return _Side(contract.service, str(contract), published.schema, wrote=wrote)


def _reader(contract: Contract, consumed: Consumed) -> _Side:
    own = consumed.group in (contract.service, QUEUE)
    name = str(contract) if own else f"{contract} (group {consumed.group})"
    return _Side(contract.service, name, consumed.schema, consumed.group)


def _forward(topic: str, before: _Topics, after: _Topics, outsiders: bool) -> Iterator[Finding]:
    for writer in after.writers(topic):
        was = before.writer(topic, writer)
        readers = list(before.readers(topic))
        if outsiders and was is not None and not _is_queue(readers):
            readers.append(replace(was, name=f"whoever reads it as {was.name} wrote it"))
        for reader in readers:
            known = gaps(was.schema, reader.schema) if was else ()
            step = gaps(writer.schema, was.schema) if was else ()
            yield from _meeting(topic, Meeting.FORWARD, writer, reader, known, step)


def _backward(topic: str, before: _Topics, after: _Topics, outsiders: bool) -> Iterator[Finding]:
    for reader in after.readers(topic):
        was = before.reader(topic, reader)
        writers = list(before.writers(topic))
        if outsiders and was is not None and _is_queue([was]):
            writers.append(replace(was, wrote=f"whoever sends it as {was.name} read it"))
        for writer in writers:
            known = gaps(writer.schema, was.schema) if was else ()
            step = gaps(was.schema, reader.schema) if was else ()
            yield from _meeting(topic, Meeting.BACKWARD, writer, reader, known, step)


def _together(topic: str, before: _Topics, after: _Topics) -> Iterator[Finding]:
    for writer in after.writers(topic):
        for reader in after.readers(topic):
            wrote, was = before.writer(topic, writer), before.reader(topic, reader)
            known = gaps(wrote.schema, was.schema) if wrote and was else ()
            yield from _meeting(topic, Meeting.TOGETHER, writer, reader, known)


def _is_queue(readers: Sequence[_Side]) -> bool:
    return any(reader.group == QUEUE for reader in readers)


def _meeting(
    topic: str,
    meeting: Meeting,
    writer: _Side,
    reader: _Side,
    known: Iterable[Gap],
    step: Iterable[Gap] = (),
) -> Iterator[Finding]:
    """What is wrong between two sides, without what was `known` before.

    A new name is only guessed where `step`, what the side that changed did to itself, has it too:
    a reader may know fewer fields than were ever written.
    """
    before, renamed = {(gap.at, _plain(gap.rule)) for gap in known}, set(step)
    backward = meeting is Meeting.BACKWARD
    for gap in gaps(writer.schema, reader.schema):
        if gap.rule is Rule.FIELD_RENAMED and gap not in renamed:
            gap = Gap(gap.at, Rule.FIELD_MISSING, gap.what.partition(";")[0])
        if (gap.at, _plain(gap.rule)) in before:
            continue
        yield Finding(
            topic=topic,
            at=gap.at,
            rule=gap.rule.value,
            meeting=meeting.value,
            breaking=gap.breaking,
            what=gap.what,
            cause=reader.name if backward else writer.name,
            breaks=(writer.wrote,) if backward else (reader.name,),
            fix=(_READER if backward else _WRITER)[gap.rule],
        )


def _plain(rule: str) -> str:
    """A new name is only a guess; what is sure is that the old one is missing."""
    return Rule.FIELD_MISSING if rule == Rule.FIELD_RENAMED else rule


def _topic_faults(
    topic: str, before: _Topics, after: _Topics, outsiders: bool
) -> Iterator[Finding]:
    fault = Finding(
        topic=topic, at="", rule="", meeting="forward", breaking=False, what="", cause="",
        breaks=(), fix="",
    )  # fmt: skip
    readers = after.readers(topic)
    if before.writers(topic) and not after.writers(topic) and (readers or outsiders):
        names = tuple(reader.name for reader in readers) or ("whoever else reads it",)
        was = [after.services.get(one.service, one.name) for one in before.writers(topic)]
        yield replace(
            fault,
            rule=UNPUBLISHED,
            breaking=bool(readers),
            what="was published, and is not any more",
            cause=", ".join(was),
            breaks=names,
            fix="release the consumers without their handlers first",
        )
    for reader in before.readers(topic):
        if after.reader(topic, reader) is None:
            yield replace(
                fault,
                rule=ABANDONED,
                meeting="backward",
                what=f"is read by group {reader.group} no more; what is published piles up for it",
                cause=after.services.get(reader.service, reader.name),
                breaks=(f"group {reader.group}",),
                fix="delete the group at the broker once its queue is empty",
            )


def _sorted(found: Iterable[Finding]) -> list[Finding]:
    """Faults of one kind as one, and the worst first."""
    joined: dict[tuple[object, ...], Finding] = {}
    for one in found:
        key = (one.topic, one.at, one.rule, one.meeting, one.cause)
        same = joined.get(key)
        breaks = tuple(dict.fromkeys((*same.breaks, *one.breaks))) if same else one.breaks
        joined[key] = replace(one, breaks=breaks)
    return sorted(joined.values(), key=lambda one: (not one.breaking, one.topic, one.at, one.rule))


# What helps, by who changed: the writer (forward, together) or the reader (backward).

_WRITER: Mapping[Rule, str] = {
    Rule.FIELD_MISSING: "write it until no version that needs it runs any more",
    Rule.FIELD_OPTIONAL: "go on writing it always, or first release consumers with a default",
    Rule.FIELD_RENAMED: "write both names until no version that needs the old one runs any more",
    Rule.FIELD_REFUSED: "first release consumers that ignore unknown fields (extra='ignore')",
    Rule.FIELD_UNWRITTEN: "nothing, if the consumers' default is right; else go on writing it",
    Rule.TYPE: "leave the field as it is, and write the new type into a new field",
    Rule.NULL: "write a value always, or first release consumers that take None",
    Rule.VALUE: "first release consumers that know the new value",
    Rule.LENGTH: "first release consumers that take the new size",
    Rule.RANGE: "first release consumers that take the new range",
    Rule.FORMAT: "leave the field as it is, and write the new format into a new field",
    Rule.PATTERN: "first release consumers that take the new pattern",
    Rule.UNCLEAR: "compare by hand, or say it with keywords that can be compared",
}

_READER: Mapping[Rule, str] = {
    Rule.FIELD_MISSING: "give it a default, until no message without it is left",
    Rule.FIELD_OPTIONAL: "give it a default",
    Rule.FIELD_RENAMED: "read both: Field(validation_alias=AliasChoices('new', 'old'))",
    Rule.FIELD_REFUSED: "ignore unknown fields (extra='ignore')",
    Rule.FIELD_UNWRITTEN: "nothing, if the default is right",
    Rule.TYPE: "take both types (old | new) until no old message is left",
    Rule.NULL: "take None too, until no message with it is left",
    Rule.VALUE: "keep the old value until no message with it is left",
    Rule.LENGTH: "take the old size until no such message is left",
    Rule.RANGE: "take the old range until no such message is left",
    Rule.FORMAT: "take both formats until no old message is left",
    Rule.PATTERN: "take the old pattern too, until no such message is left",
    Rule.UNCLEAR: "compare by hand, or say it with keywords that can be compared",
}
