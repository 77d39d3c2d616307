"""What an instance consumes is in its record."""

from seawall.registry.consuming import consumed, consuming
from seawall.topology import Address, Instance


def instance(service: str, metadata: dict[str, str]) -> Instance:
    return Instance(
        service=service,
        version="1.0.0",
        instance_id=f"{service}-1",
        incarnation="a",
        address=Address("127.0.0.1", 1),
        metadata=metadata,
    )


def test_what_is_written_is_read_with_the_services_that_consume_it() -> None:
    mail = instance("mail", dict(consuming([("order.placed", "mail"), ("ż: 2", "mail")])))
    copy = instance("mail2", dict(consuming([("order.placed", "mail")])))
    assert consumed([mail, copy]) == {
        ("order.placed", "mail"): {"mail", "mail2"},
        ("ż: 2", "mail"): {"mail"},
    }


def test_nothing_is_said_of_nothing() -> None:
    assert consuming([]) == {}
    assert consumed([instance("web", {})]) == {}


def test_what_others_wrote_there_is_passed_over() -> None:
    assert (
        consumed([instance("odd", {"consumes": "all"}), instance("x", {"consumes": "[1]"})]) == {}
    )
