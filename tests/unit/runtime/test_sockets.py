import os
import socket
from random import Random

import pytest

from seawall.errors import Misconfigured
from seawall.runtime.sockets import PortTaken, listen, port_for_command


def test_a_taken_port_names_its_holder() -> None:
    with listen("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with pytest.raises(PortTaken) as told:
            listen("127.0.0.1", port)
        assert told.value.holder.pid == os.getpid()
        assert told.value.fix is not None
        assert f"kill {os.getpid()}" in told.value.fix
        with pytest.raises(PortTaken):
            port_for_command("127.0.0.1", port, (), Random(1))


def test_a_command_gets_a_free_port_that_no_outgoing_connection_takes() -> None:
    first = port_for_command("127.0.0.1", 0, (), Random(1))
    second = port_for_command("127.0.0.1", 0, {first}, Random(1))
    assert {first, second} <= set(range(20000, 30000))
    assert first != second
    with socket.socket() as bound:  # by a program that sets no options
        bound.bind(("127.0.0.1", second))


def test_what_cannot_be_listened_on_says_why() -> None:
    with pytest.raises(Misconfigured, match="cannot listen on"):
        listen("203.0.113.7", 0)
    with pytest.raises(Misconfigured, match="cannot listen on"):
        listen("127.0.0.1", 70000)


def test_ipv6_is_an_address_too() -> None:
    with listen("::1", 0) as held:
        assert held.family == socket.AF_INET6
