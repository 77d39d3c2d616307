"""What a hostile or careless customer sends: a clear 4xx from gateway or service, never a 5xx."""

import json
import socket

from tests.faults.conftest import Notes, problem

DEEP = "[" * 5000 + "]" * 5000


def _raw(notes: Notes, request: bytes) -> tuple[int, bytes]:
    """The status of the first answer to these bytes, and all that came."""
    host, _, port = notes.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split(b" ", 2)[1]), answer


def test_bad_requests_are_refused_and_the_next_is_served(notes: Notes) -> None:
    heads = {
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n": 400,
        b"GET /\x00 HTTP/1.1\r\nhost: a\r\n\r\n": 400,
        b"POST /notes HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n": 400,
        b"POST /notes HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n": 400,
        b"POST /notes HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n": 400,
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 100_000 + b"\r\n\r\n": 431,
        b"POST /notes HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n": 413,
        b"nonsense\r\n\r\n": 400,
    }
    for request, status in heads.items():
        assert _raw(notes, request)[0] == status, request[:80]

    bodies = {
        "no JSON": 400,
        '{"id": NaN}': 400,
        '{"id": "\\ud800"}': 400,
        DEEP: 400,
        '{"id": 1}': 422,
        "[]": 422,
        json.dumps({"id": "x" * 2_000_000}): 413,
    }
    for body, status in bodies.items():
        answer = notes.http.post(
            "/notes", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == status, body[:80]
        assert problem(answer)["status"] == status

    assert problem(notes.http.get("/no/such/path"))["status"] == 404
    for token in ("", "Bearer", "Bearer x.y.z", "Bearer " + "a" * 20_000, "Basic eDp5"):
        refused = notes.http.get("/private", headers={"authorization": token} if token else {})
        assert refused.status_code in (401, 431), token[:20]
        assert problem(refused)["status"] == refused.status_code
    forged = {"x-identity-subject": "root"}
    assert notes.http.get("/private", headers=forged).status_code == 401

    assert notes.http.get("/hello").status_code == 200
    assert notes.post().status_code == 202
    assert notes.lost() == set()
    rows = notes.project.instances()
    assert {name: row["restarts"] for name, row in rows.items() if row["restarts"]} == {}
