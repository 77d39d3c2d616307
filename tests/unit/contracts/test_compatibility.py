"""What breaks whom from one version to the next."""

from typing import Any

import pytest

from seawall.contracts.compatibility import Mode, compare, faults
from seawall.contracts.contract import QUEUE, Consumed, Contract, Published, read, written
from seawall.errors import Misconfigured

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}


def event(*required: str, **optional: Schema) -> Schema:
    properties = {**dict.fromkeys(required, TEXT), **optional}
    return {"type": "object", "properties": properties, "required": list(required)}


def orders(version: str, schema: Schema, topic: str = "order.placed") -> Contract:
    published = (Published(topic=topic, schema=schema),)
    return Contract(service="orders", version=version, publishes=published)


def mail(version: str, schema: Schema, group: str = "mail") -> Contract:
    consumed = (Consumed(topic="order.placed", group=group, schema=schema),)
    return Contract(service="mail", version=version, consumes=consumed)


def stock(version: str, schema: Schema) -> Contract:
    consumed = (Consumed(topic="stock.reserve", group=QUEUE, schema=schema),)
    return Contract(service="stock", version=version, consumes=consumed)


ID, BOTH = event("id"), event("id", "email")


def test_a_field_that_a_known_consumer_needs_is_gone() -> None:
    (found,) = compare(
        [orders("1.0.0", BOTH), mail("1.4.0", BOTH)],
        [orders("2.0.0", ID), mail("1.4.0", BOTH)],
        outsiders=False,
    )
    assert (found.topic, found.at, found.rule) == ("order.placed", "email", "field-missing")
    assert (found.meeting, found.cause, found.breaks) == (
        "forward",
        "orders 2.0.0",
        ("mail 1.4.0",),
    )
    assert found.breaking
    assert "until no version that needs it runs" in found.fix


def test_who_is_not_known_is_promised_what_the_old_version_said() -> None:
    step = [orders("1.0.0", BOTH)], [orders("2.0.0", ID)]
    (found,) = compare(*step)
    assert found.breaks == ("whoever reads it as orders 1.0.0 wrote it",)
    assert compare(*step, outsiders=False) == []


def test_a_consumer_may_need_only_what_was_written_before_it() -> None:
    (found,) = compare(
        [orders("1.0.0", ID), mail("1.0.0", ID)], [orders("1.1.0", BOTH), mail("2.0.0", BOTH)]
    )
    assert (found.meeting, found.at, found.cause) == ("backward", "email", "mail 2.0.0")
    assert found.breaks == ("what orders 1.0.0 wrote",)
    assert "give it a default" in found.fix


def test_a_field_with_a_new_name() -> None:
    was, now = event("id", "mail"), event("id", "email")
    (forward,) = compare([orders("1.0.0", was)], [orders("2.0.0", now)])
    assert (forward.at, forward.rule) == ("mail", "field-renamed")
    assert "`email` may be its new name" in forward.what
    before, after = (
        [orders("1.0.0", was), mail("1.0.0", was)],
        [orders("1.0.0", was), mail("2.0.0", now)],
    )
    (backward,) = compare(before, after)
    assert (backward.at, backward.rule) == ("email", "field-renamed")
    assert "AliasChoices" in backward.fix


def test_a_field_that_a_reader_never_knew_is_no_new_name() -> None:
    (found,) = compare(
        [orders("1.0.0", BOTH), mail("1.0.0", event("email"))],
        [orders("2.0.0", ID), mail("1.0.0", event("email"))],
    )
    assert (found.at, found.rule, len(found.breaks)) == ("email", "field-missing", 2)


def test_the_mode_says_who_is_released_first() -> None:
    before = [orders("1.0.0", BOTH), mail("1.0.0", BOTH)]
    after = [orders("2.0.0", ID), mail("2.0.0", ID)]
    assert compare(before, after, mode=Mode.BACKWARD) == []
    assert {found.meeting for found in compare(before, after, mode=Mode.FORWARD)} == {"forward"}


def test_two_steps_that_are_good_alone_and_bad_together() -> None:
    a, b = {"enum": ["a"]}, {"enum": ["a", "b"]}
    (found,) = compare(
        [orders("1.0.0", a), mail("1.0.0", b)],
        [orders("2.0.0", b), mail("2.0.0", a)],
        outsiders=False,
    )
    assert (found.meeting, found.rule) == ("together", "value")


def test_whoever_sends_a_job_is_promised_what_the_worker_read() -> None:
    (found,) = compare([stock("1.0.0", ID)], [stock("2.0.0", BOTH)])
    assert (found.rule, found.at) == ("field-missing", "email")
    assert found.breaks == ("whoever sends it as stock 1.0.0 read it",)
    assert compare([stock("1.0.0", BOTH)], [stock("2.0.0", ID)]) == []


def test_what_was_wrong_before_is_not_this_steps_fault() -> None:
    before = [orders("1.0.0", ID), mail("1.0.0", BOTH)]
    assert compare(before, [orders("1.1.0", ID), mail("1.0.0", BOTH)]) == []
    assert [(one.at, one.breaks) for one in faults(before)] == [("email", ("mail 1.0.0",))]


def test_a_topic_that_is_published_no_more() -> None:
    before = [orders("1.0.0", ID), mail("1.0.0", ID)]
    found = compare(before, [Contract(service="orders", version="2.0.0"), mail("1.0.0", ID)])
    assert [(one.rule, one.breaking, one.breaks) for one in found] == [
        ("topic-unpublished", True, ("mail 1.0.0",))
    ]


def test_a_group_that_reads_no_more_is_a_warning() -> None:
    (found,) = compare(
        [orders("1.0.0", ID), mail("1.0.0", ID, group="letters")],
        [orders("1.0.0", ID), Contract(service="mail", version="2.0.0")],
    )
    assert (found.rule, found.breaking, found.cause) == ("group-abandoned", False, "mail 2.0.0")


def test_one_fault_names_all_who_suffer_and_the_worst_comes_first() -> None:
    note = event("id", note=TEXT)
    mails = [mail("1.0.0", BOTH), mail("1.0.0", BOTH, "b")]
    found = compare(
        [orders("1.0.0", event("id", "email", "note")), *mails],
        [orders("2.0.0", ID), *mails, mail("1.0.0", note, "c")],
        outsiders=False,
    )
    assert [(one.at, one.breaking) for one in found] == [("email", True), ("note", False)]
    assert found[0].breaks == ("mail 1.0.0", "mail 1.0.0 (group b)")


def test_contracts_are_kept_in_a_file() -> None:
    contracts = [orders("1.0.0", BOTH), mail("1.0.0", ID)]
    assert sorted(read(written(contracts)), key=str) == sorted(contracts, key=str)
    assert written(contracts) == written(contracts[::-1])


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '{"schema": "seawall.contract/1"}'])
def test_what_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="this is no"):
        read(text)
