"""Client and instance connections on transports that only remember: every cut of the bytes."""

import pytest

from seawall.gateway.config import Edge
from tests.support.wires import Pair

REQUESTS = [
    b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
    b"POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    b"5;x\r\nhello\r\n0\r\na: b\r\n\r\n",
]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\na: b\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
]


def exchange(request: bytes, answer: bytes, cuts: tuple[int, int]) -> tuple[bytes, bytes]:
    """What the service and the client got, without what differs by chance."""
    pair = Pair()
    pair.down.data_received(request[: cuts[0]])
    if cuts[0] < len(request):
        pair.down.data_received(request[cuts[0] :])
    sent = pair.service.taken()
    pair.up.data_received(answer[: cuts[1]])
    if cuts[1] < len(answer):
        pair.up.data_received(answer[cuts[1] :])
    assert pair.endpoint.in_flight == 0
    assert pair.endpoint.idle == [pair.up]
    assert pair.gateway.proxy.metrics.active_requests == 0
    return sent, pair.client.taken()


@pytest.mark.parametrize("request_", REQUESTS)
def test_every_cut_of_a_request_is_the_same_request(request_: bytes) -> None:
    whole = exchange(request_, ANSWERS[0], (len(request_), len(ANSWERS[0])))
    for cut in range(1, len(request_)):
        assert exchange(request_, ANSWERS[0], (cut, len(ANSWERS[0]))) == whole


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_cut_of_an_answer_is_the_same_answer(answer: bytes) -> None:
    whole = exchange(REQUESTS[0], answer, (len(REQUESTS[0]), len(answer)))
    for cut in range(1, len(answer)):
        assert exchange(REQUESTS[0], answer, (len(REQUESTS[0]), cut)) == whole


def test_a_full_client_pauses_the_service_and_a_pooled_connection_reads() -> None:
    pair = Pair()
    pair.down.data_received(REQUESTS[0])
    pair.down.pause_writing()
    assert not pair.service.reading
    pair.up.data_received(ANSWERS[0])
    assert pair.endpoint.idle == [pair.up]
    assert pair.service.reading
    pair.down.data_received(REQUESTS[0])
    assert pair.service.data.count(b"GET /a") == 1  # no further answer for a full client
    pair.down.resume_writing()
    assert pair.service.data.count(b"GET /a") == 2


def test_a_full_service_pauses_the_client() -> None:
    pair = Pair()
    pair.down.data_received(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n")
    pair.up.pause_writing()
    assert not pair.client.reading
    pair.up.resume_writing()
    assert pair.client.reading
    pair.up.pause_writing()
    pair.up.data_received(b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n")
    assert pair.client.reading  # to take what it still sends
    assert pair.service.closed


def test_a_client_that_reads_ahead_is_paused_at_the_bound() -> None:
    pair = Pair()
    pair.down.data_received(REQUESTS[0])
    pair.down.data_received(b"x" * 70_000)
    assert not pair.client.reading


@pytest.mark.parametrize("more", [b"", b"POST /b HTTP/1.1\r\n"])
def test_a_client_that_takes_nothing_of_its_last_answer_is_dropped(more: bytes) -> None:
    pair = Pair(edge=Edge(write_timeout=30.0, linger=2.0))
    pair.down.data_received(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" + more)
    pair.client.unsent = 1000
    pair.up.data_received(ANSWERS[0])
    assert pair.down in pair.gateway.proxy.connections
    pair.client.unsent = 500
    pair.pass_time(31)
    assert not pair.client.aborted
    pair.pass_time(31)
    assert pair.client.aborted


def test_a_client_that_takes_slowly_keeps_its_connection() -> None:
    pair = Pair(edge=Edge(write_timeout=30.0, idle_timeout=10.0))
    pair.down.data_received(REQUESTS[0])
    pair.client.unsent = 1000
    pair.down.pause_writing()
    pair.up.data_received(ANSWERS[0])
    for unsent in (800, 600, 400):
        pair.client.unsent = unsent
        pair.pass_time(31)
        assert not pair.client.aborted
    pair.pass_time(31)
    assert pair.client.aborted
