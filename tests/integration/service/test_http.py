"""What every service does with requests, over a real socket."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, BackgroundTasks, HTTPException, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select

from seawall import Caller, Database, Full, Identity, Service, Transaction, Unavailable, requires
from seawall.errors import Misconfigured
from seawall.testing.platform import Platform
from tests.support.waiting import eventually

metadata = MetaData()
ROWS = Table("rows", metadata, Column("id", Integer, primary_key=True), Column("n", Integer))


class Item(BaseModel):
    name: str
    price: float = 1.0
    more: Any = None


class Served:
    """A started service and an HTTP client of it."""

    def __init__(self, service: Service, http: httpx2.AsyncClient, system: Platform) -> None:
        self.service = service
        self.http = http
        self.system = system
        self.release = asyncio.Event()
        self.entered = 0
        self.finished = 0


def _plain(service: Service, state: list["Served"]) -> None:
    router = APIRouter(prefix="/v1")

    @service.get("/hello/{name}")
    async def hello(name: str) -> str:
        return name

    @router.get("/things/{thing}")
    async def thing(thing: str) -> str:
        return thing

    @service.post("/items")
    async def create(item: Item) -> Item:
        return item

    @service.get("/echo")
    async def echo(number: float) -> float:
        return number

    @service.api_route("/wait", methods=["GET", "POST"])
    async def wait() -> str:
        state[0].entered += 1
        await finish()
        return "done"

    async def finish() -> None:
        await state[0].release.wait()
        state[0].finished += 1

    @service.get("/afterwards")
    async def afterwards(tasks: BackgroundTasks) -> None:
        tasks.add_task(finish)

    @service.get("/me")
    async def me(caller: Caller) -> dict[str, Any]:
        return {"subject": caller.subject, "scopes": sorted(caller.scopes)}

    @service.get("/admin")
    async def admin(caller: Annotated[Identity, requires("admin")]) -> str:
        return caller.subject

    service.include_router(router)


def _bodies(service: Service, state: list["Served"]) -> None:
    @service.get("/text/{size}")
    async def text(size: int, etag: str = "") -> Response:
        headers = {"etag": etag} if etag else {}
        return Response(b"a" * size, media_type="text/plain", headers=headers)

    @service.get("/image")
    async def image() -> Response:
        return Response(b"a" * 5000, media_type="image/png")

    @service.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"data: " + b"a" * 4000 + b"\n\n"
            await state[0].release.wait()
            yield b"data: end\n\n"

        return StreamingResponse(parts(), media_type="text/event-stream")

    @service.get("/fails/{how}")
    async def fails(how: str) -> None:
        raise {
            "unexpected": RuntimeError("the password is hunter2"),
            "full": Full("no place", retry_after=7),
            "unavailable": Unavailable("the broker is away"),
            "http": HTTPException(418, {"detail": "a teapot", "pot": 1}),
            "misconfigured": Misconfigured("the secret is x"),
        }[how]


def _kept(service: Service, database: Database) -> None:
    @service.post("/once/{n}", status_code=201, idempotent=True)
    async def once(n: int, tx: Annotated[Transaction, database.tx], item: Item) -> dict[str, int]:
        await tx.execute(insert(ROWS).values(n=n))
        if n == 500:
            raise RuntimeError("after the effect")
        if n == 409:
            raise HTTPException(409, "not now")
        return {"n": n}

    @service.get("/count/{n}")
    async def count(n: int) -> int:
        async with database.read() as session:
            query = select(func.count()).select_from(ROWS).where(ROWS.c.n == n)
            return (await session.execute(query)).scalar_one()


@pytest.fixture
async def served(system: Platform) -> AsyncIterator[Served]:
    service = Service("orders", version="1.2.3", max_in_flight=3, max_body_size=10_000)
    database = service.database(metadata=metadata)
    state: list[Served] = []
    _plain(service, state)
    _bodies(service, state)
    _kept(service, database)
    await system.start(service)
    async with httpx2.AsyncClient(base_url=system.url("orders"), timeout=30) as http:
        state.append(Served(service, http, system))
        yield state[0]


async def test_answers_say_who_served_them(served: Served) -> None:
    answer = await served.http.get("/hello/you", headers={"x-request-id": "abc"})
    assert answer.json() == "you"
    assert answer.headers["x-served-by"] == "orders/orders-1"
    assert answer.headers["x-request-id"] == "abc"
    another = await served.http.get("/hello/you", headers={"x-request-id": "x" * 1000})
    assert len(another.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("how", "status", "detail", "more"),
    [
        ("unexpected", 500, "Something unexpected went wrong; the log has the trace id.", {}),
        ("full", 503, "no place", {"retryable": True}),
        ("unavailable", 503, "the broker is away", {"retryable": True}),
        ("http", 418, "a teapot", {"pot": 1}),
        ("misconfigured", 500, "The service is misconfigured; its log says how.", {}),
    ],
)
async def test_errors_are_problems(
    served: Served, how: str, status: int, detail: str, more: dict[str, Any]
) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await served.http.get(
        f"/fails/{how}", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    )
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["detail"] == detail
    assert (problem["service"], problem["instance"]) == ("orders", f"/fails/{how}")
    assert problem["trace_id"] == trace_id
    assert problem.items() >= more.items()
    if status == 503:
        assert answer.headers["retry-after"] == ("7" if how == "full" else "1")


async def test_no_route_and_wrong_method_are_problems(served: Served) -> None:
    for method, path, status in (("GET", "/nowhere", 404), ("DELETE", "/items", 405)):
        answer = await served.http.request(method, path)
        assert answer.status_code == status
        assert answer.json()["status"] == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'{"name": 1}',
        b'{"name": "a", "price": NaN}',
        b'{"name": "a", "more": Infinity}',
        b'{"name": "a", "price": 1e999}',
        b'{"name": "\\ud800"}',
        b'{"name": "a", "more": "\\udfff"}',
        b'{"name": "a", "more": ' + b"[" * 101 + b"]" * 101 + b"}",
        b"[" * 5000,
        b'{"name": "a", "more": ' + b"9" * 5000 + b"}",
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"name": "a"}',
        b'{"name": "\xc3\x28"}',
        b'{"name": "a"} x',
        b'{"name": "\x00"}',
    ],
)
async def test_bad_json_is_the_callers_fault(served: Served, body: bytes) -> None:
    answer = await served.http.post(
        "/items", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "content_type",
    [
        *("", "text/plain", "application/x-www-form-urlencoded", "application/octet-stream"),
        *("multipart/form-data; boundary=x", "image/png", "application/json-seq", "\xff", ";"),
    ],
)
async def test_a_wrong_content_type_is_the_callers_fault(served: Served, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode("latin-1"))] if content_type else []
    for body in (b'{"name": "a"}', b'{"name": NaN}', b"\xff\xfe", b"[" * 5000):
        answer = await served.http.post("/items", content=body, headers=headers)
        assert answer.status_code in (400, 415, 422)
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "nonsense", '"'])
async def test_json_is_utf8_whatever_its_charset_says(served: Served, charset: str) -> None:
    headers = {"content-type": f"application/json; charset={charset}"}
    answer = await served.http.post("/items", content=b'{"name": "\xc3\xa4"}', headers=headers)
    assert answer.json()["name"] == "ä"
    answer = await served.http.post(
        "/items", content='{"name": "ä"}'.encode("utf-16"), headers=headers
    )
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        *("/text/" + "9" * 5000, "/text/nan", "/hello/%ED%A0%80", "/text/%FF"),
        *("/echo?number=nan", "/echo?number=1e999", "/echo?number=" + "9" * 400),
    ],
)
async def test_odd_numbers_and_bytes_in_a_path_are_no_failure_of_ours(
    served: Served, path: str
) -> None:
    answer = await served.http.get(path)
    assert answer.status_code < 500


async def test_good_json_passes(served: Served) -> None:
    deep: Any = 1
    for _ in range(99):
        deep = [deep]
    for more in ("\U0001f3d6", {"a": [1, None, True]}, deep, 2**63, -1.5):
        answer = await served.http.post("/items", json={"name": "a", "more": more})
        assert answer.status_code == 200
        assert answer.json()["more"] == more


async def test_a_body_beyond_the_limit_is_refused(served: Served) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"a" * 1000

    declared = await served.http.post("/items", content=b"a" * 10_001)
    streamed = await served.http.post("/items", content=chunks())
    for answer in (declared, streamed):
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_spent_deadline_is_refused_and_a_running_one_ends_reads(served: Served) -> None:
    spent = await served.http.get("/hello/you", headers={"x-deadline-ms": "0"})
    assert spent.status_code == 504
    late = await served.http.get("/wait", headers={"x-deadline-ms": "50"})
    assert late.status_code == 504
    assert late.json()["detail"] == "The caller's time ran out."
    nonsense = await served.http.get("/hello/you", headers={"x-deadline-ms": "soon"})
    assert nonsense.status_code == 200
    assert served.service.in_flight == 0


async def test_too_many_at_once_are_refused_and_probes_are_not(served: Served) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(served.http.get("/wait")) for _ in range(3)]
        await eventually(lambda: served.entered == 3)
        refused = await served.http.get("/hello/you")
        assert refused.status_code == 503
        assert refused.json()["retryable"] is True
        assert (await served.http.get("/livez")).status_code == 200
        assert (await served.http.get("/readyz")).status_code == 200
        served.release.set()
    assert [answer.result().status_code for answer in waiting] == [200] * 3
    assert (await served.http.get("/hello/you")).status_code == 200


async def test_compression(served: Served) -> None:
    plain = {"accept-encoding": "identity"}
    packed = await served.http.get("/text/5000?etag=%22v1%22")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["etag"] == 'W/"v1"'
    assert packed.headers["vary"] == "accept-encoding"
    assert int(packed.headers["content-length"]) < 200
    assert packed.text == "a" * 5000
    unpacked = await served.http.get("/text/5000?etag=%22v1%22", headers=plain)
    assert "content-encoding" not in unpacked.headers
    assert unpacked.headers["etag"] == '"v1"'
    assert unpacked.headers["vary"] == "accept-encoding"
    for path in ("/text/500", "/image"):
        untouched = await served.http.get(path)
        assert "content-encoding" not in untouched.headers
        assert "vary" not in untouched.headers
    large = await served.http.get("/text/300000")
    assert len(large.content) == 300_000
    head = await served.http.head("/text/5000")
    assert "content-encoding" not in head.headers


async def test_streams_are_left_alone(served: Served) -> None:
    headers = {"x-deadline-ms": "100", "accept-encoding": "gzip"}
    async with served.http.stream("GET", "/stream", headers=headers) as answer:
        assert "content-encoding" not in answer.headers
        parts = answer.aiter_raw()
        assert (await anext(parts)).startswith(b"data: aaaa")
        await asyncio.sleep(0.15)  # noqa: TID251 - the deadline passes while it streams
        served.release.set()
        assert b"data: end" in await anext(parts)


async def test_identity_comes_from_the_gateway_headers(served: Served) -> None:
    assert (await served.http.get("/me")).status_code == 401
    who = {"x-identity-subject": "ann", "x-identity-scopes": "read write"}
    answer = await served.http.get("/me", headers=who)
    assert answer.json() == {"subject": "ann", "scopes": ["read", "write"]}
    assert (await served.http.get("/admin", headers=who)).status_code == 403
    admin = {**who, "x-identity-scopes": "admin"}
    assert (await served.http.get("/admin", headers=admin)).json() == "ann"


async def _count(served: Served, n: int) -> int:
    count: int = (await served.http.get(f"/count/{n}")).json()
    return count


async def test_a_key_makes_a_post_safe_to_repeat(served: Served) -> None:
    body, key = {"name": "a"}, {"idempotency-key": "k1"}
    first = await served.http.post("/once/1", json=body, headers=key)
    again = await served.http.post("/once/1", json=body, headers=key)
    assert (first.status_code, first.json()) == (201, {"n": 1})
    assert (again.status_code, again.json()) == (201, {"n": 1})
    assert again.headers["idempotency-replayed"] == "true"
    other_body = await served.http.post("/once/1", json={"name": "b"}, headers=key)
    assert other_body.status_code == 422
    who = {**key, "x-identity-subject": "ann"}
    assert (await served.http.post("/once/1", json=body, headers=who)).status_code == 201
    assert await _count(served, 1) == 2  # one for each caller
    await served.http.post("/once/1", json=body)
    assert await _count(served, 1) == 3  # no key, no memory


async def test_repetitions_at_the_same_time_are_one(served: Served) -> None:
    body, key = {"name": "a"}, {"idempotency-key": "k2"}
    answers = await asyncio.gather(
        *(served.http.post("/once/2", json=body, headers=key) for _ in range(3))
    )
    assert [answer.status_code for answer in answers] == [201] * 3
    assert await _count(served, 2) == 1


@pytest.mark.parametrize("n", [500, 409])
async def test_a_failure_leaves_neither_effect_nor_memory(served: Served, n: int) -> None:
    for _ in range(2):
        answer = await served.http.post(
            f"/once/{n}", json={"name": "a"}, headers={"idempotency-key": "k3"}
        )
        assert answer.status_code == n
        assert "idempotency-replayed" not in answer.headers
    assert await _count(served, n) == 0


async def test_an_idempotent_route_without_a_database_is_refused_at_start() -> None:
    service = Service("orders")

    @service.post("/orders", idempotent=True)
    async def place() -> None: ...

    with pytest.raises(Misconfigured, match="no database to remember"):
        async with Platform() as system:
            await system.start(service)


def test_a_router_refuses_what_it_cannot_remember_where_it_is_written() -> None:
    async def place() -> None: ...

    with pytest.raises(TypeError, match="idempotent"):
        APIRouter().post("/orders", idempotent=True)(place)  # type: ignore[call-arg]


async def test_bad_keys_are_refused(served: Served) -> None:
    for key in ("", "x" * 256):
        answer = await served.http.post(
            "/once/4", json={"name": "a"}, headers={"idempotency-key": key}
        )
        assert answer.status_code == 400


async def test_metrics_have_routes_not_paths(served: Served) -> None:
    for path in ("/hello/1", "/hello/2", "/v1/things/3", "/nowhere/4", "/fails/unexpected"):
        await served.http.get(path)
    text = (await served.http.get("/metrics")).text
    counts = [
        line
        for line in text.splitlines()
        if line.startswith("http_server_request_duration_seconds_count")
    ]
    routes = {line.split('http_route="')[1].split('"')[0] for line in counts}
    assert routes == {"/hello/{name}", "/v1/things/{thing}", "__none__", "/fails/{how}"}
    hello = next(line for line in counts if "/hello/" in line)
    assert 'service="orders"' in hello
    assert hello.endswith(" 2.0")
    openmetrics = await served.http.get(
        "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert openmetrics.text.endswith("# EOF\n")


async def test_health_names_its_checks(served: Served) -> None:
    @served.service.check("printer")
    async def printer() -> bool:
        return False

    answer = await served.http.get("/health")
    assert answer.status_code == 200
    health = answer.json()
    assert (health["status"], health["service"], health["version"]) == ("warn", "orders", "1.2.3")
    assert health["checks"]["database"]["status"] == "pass"
    assert health["checks"]["printer"]["status"] == "warn"
    assert (await served.http.get("/readyz")).status_code == 200

    @served.service.check("disk", needed=True)
    def disk() -> None:
        raise OSError("full")

    assert (await served.http.get("/health")).status_code == 503
    unready = await served.http.get("/readyz")
    assert (unready.status_code, unready.text) == (503, "disk: OSError: full\n")
    assert (await served.http.get("/livez")).status_code == 200


async def test_a_draining_service_answers_and_closes(served: Served) -> None:
    served.service.drain()
    assert (await served.http.get("/readyz")).status_code == 503
    assert (await served.http.get("/livez")).status_code == 200
    answer = await served.http.get("/hello/you")
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"


async def _leave(served: Served, request: bytes) -> None:
    """Send a request, and reset the connection when a handler works on it."""
    entered = served.entered
    address = served.system.address("orders")
    _, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request)
    await eventually(lambda: served.entered == entered + 1)
    writer.transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
    )
    writer.transport.abort()


async def test_a_read_ends_when_its_client_leaves(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    for more in (b"", b"x-deadline-ms: 60000\r\n"):
        await _leave(served, b"GET /wait HTTP/1.1\r\nhost: a\r\n" + more + b"\r\n")
        await eventually(lambda: served.service.in_flight == 0)
    assert served.finished == 0
    assert not caplog.records  # it is nobody's failure
    assert (await served.http.get("/hello/you")).status_code == 200
    text = (await served.http.get("/metrics")).text
    count = next(line for line in text.splitlines() if "_count{" in line and '"499"' in line)
    assert '"/wait"' in count
    assert count.endswith(" 2.0")


async def test_a_write_goes_on_when_its_client_leaves(served: Served) -> None:
    await _leave(served, b"POST /wait HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
    assert (await served.http.get("/hello/you")).status_code == 200  # it has noticed by now
    assert served.service.in_flight == 1
    served.release.set()
    await eventually(lambda: served.finished == 1)
    await eventually(lambda: served.service.in_flight == 0)


async def test_work_after_the_answer_goes_on_when_the_client_leaves(served: Served) -> None:
    async with httpx2.AsyncClient(base_url=served.system.url("orders"), timeout=30) as http:
        assert (await http.get("/afterwards")).status_code == 200
    assert (await served.http.get("/hello/you")).status_code == 200
    served.release.set()
    await eventually(lambda: served.finished == 1)


def test_gzip_of_the_standard_library_agrees() -> None:
    from seawall.service.compression import compress

    assert gzip.decompress(compress(b"abc" * 1000)) == b"abc" * 1000
