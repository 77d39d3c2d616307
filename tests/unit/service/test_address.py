import socket

import pytest

from seawall.service.address import listening, reachable
from seawall.topology import Address


def test_our_own_socket_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listening(port) == Address("127.0.0.1", port)
    assert listening(port) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_everywhere_is_reached_at_an_address_of_ours(host: str) -> None:
    found = reachable(Address(host, 8000))
    assert found.host not in ("0.0.0.0", "::", "")
    assert found.port == 8000


def test_an_address_that_says_where_stays() -> None:
    assert reachable(Address("10.0.0.1", 8000)) == Address("10.0.0.1", 8000)
