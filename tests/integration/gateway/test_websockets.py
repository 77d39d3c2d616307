"""WebSockets between real programs: the `websockets` library and Node.js at both ends of us."""

import asyncio
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidStatus,
)
from websockets.http11 import Request, Response

from seawall.errors import Misconfigured
from seawall.gateway.balance import Sticky
from seawall.gateway.config import Edge, GatewayConfig, Route, Timeouts, Upstreams
from seawall.gateway.gateway import Gateway, Static
from seawall.resilience.balancing import Balancing
from seawall.topology import Address, Instance, InstanceState
from tests.integration.gateway.rig import Rig, Service, rig
from tests.support.waiting import eventually

MEGABYTE = 1024 * 1024
ROUTES = (Route(service="shop"),)


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        if isinstance(message, str) and message.startswith("close "):
            await connection.close(int(message.removeprefix("close ")), "as you say")
        else:
            await connection.send(message)


def _declined(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(404, "not here") if request.path == "/nowhere" else None


@dataclass
class Echo(Service):
    """A service of WebSockets: what it hears it says, and it closes when it is told to."""

    closed: list[tuple[int | None, str | None]] = field(default_factory=list)
    sockets: set[ServerConnection] = field(default_factory=set)
    listener: Server | None = None

    async def __aenter__(self) -> "Echo":
        self.listener = await serve(
            self._talk, "127.0.0.1", 0, max_size=4 * MEGABYTE, process_request=_declined
        )
        self.port = next(iter(self.listener.sockets)).getsockname()[1]
        return self

    @property
    def instance(self) -> Instance:
        return Instance(
            service=self.name,
            version=self.version,
            instance_id=self.instance_id,
            incarnation="1",
            address=Address("127.0.0.1", self.port),
            state=InstanceState.READY,
        )

    async def kill(self) -> None:
        """Go as a process goes that is killed: no closing frame is sent."""
        listener, self.listener = self.listener, None
        if listener is None:
            return
        for connection in tuple(self.sockets):
            connection.transport.abort()
        listener.close()
        await listener.wait_closed()

    async def _talk(self, connection: ServerConnection) -> None:
        self.sockets.add(connection)
        try:
            await echo(connection)
        except ConnectionClosed:
            pass  # in the midst of it: the test asks how
        finally:
            self.sockets.discard(connection)
            self.closed.append((connection.close_code, connection.close_reason))


def client(r: Rig, path: str = "/") -> connect:
    url = f"ws://{r.address.host}:{r.address.port}{path}"
    return connect(url, proxy=None, max_size=4 * MEGABYTE, compression="deflate")


async def test_messages_of_every_size_come_back() -> None:
    async with rig(Echo()) as r, client(r) as socket:
        for message in ("hello", "", b"\x00\xff", "é" * 70_000, bytes(range(256)) * 4096):
            await socket.send(message)
            assert await socket.recv() == message


async def test_many_messages_under_way_come_back_in_order() -> None:
    async with rig(Echo()) as r, client(r) as socket:
        message = b"x" * MEGABYTE

        async def send() -> None:
            for number in range(8):
                await socket.send(message + bytes((number,)))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            for number in range(8):
                assert (await socket.recv())[-1] == number


async def test_pings_reach_the_other_end() -> None:
    async with rig(Echo()) as r, client(r) as socket:
        await (await socket.ping(b"are you there"))
        (service,) = r.services
        assert isinstance(service, Echo)
        (other,) = service.sockets
        await (await other.ping(b"and you"))


async def test_who_closes_says_why() -> None:
    async with rig(Echo()) as r:
        (service,) = r.services
        assert isinstance(service, Echo)
        async with client(r) as socket:
            await socket.close(4001, "enough")
        await eventually(lambda: service.closed == [(4001, "enough")])
        async with client(r) as socket:
            await socket.send("close 4002")
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (4002, "as you say")
        assert [line["flags"] for line in await r.logged(2)] == ["-", "-"]


async def test_two_hundred_talk_at_once() -> None:
    async with rig(Echo()) as r:

        async def talk(number: int) -> None:
            async with client(r) as socket:
                for turn in range(5):
                    await socket.send(f"{number} {turn}")
                    assert await socket.recv() == f"{number} {turn}"

        async with asyncio.TaskGroup() as tasks:
            for number in range(200):
                tasks.create_task(talk(number))
        assert len(await r.logged(200)) == 200


async def test_a_service_that_dies_is_seen_by_its_clients() -> None:
    async with rig(Echo()) as r, client(r) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        await r.services[0].kill()
        with pytest.raises(ConnectionClosedError):
            await socket.recv()
        assert socket.close_code == 1006  # no closing frame came


async def test_a_client_that_vanishes_is_seen_by_the_service() -> None:
    async with rig(Echo()) as r, client(r) as socket:
        await socket.send("hello")
        await socket.recv()
        socket.transport.abort()
        (service,) = r.services
        assert isinstance(service, Echo)
        await eventually(lambda: service.closed == [(1006, "")])


async def test_what_is_silent_for_too_long_is_ended() -> None:
    routes = (replace(ROUTES[0], timeouts=Timeouts(stream_idle=0.3)),)
    async with rig(Echo(), routes=routes) as r, client(r) as socket:
        with pytest.raises(ConnectionClosedError):
            await socket.recv()
        assert (await r.logged())[0]["flags"] == "SI"


async def say_and_hear(socket: ClientConnection) -> None:
    while True:
        await socket.send("x" * 400)
        await socket.recv()


async def test_a_tunnel_carries_so_much_and_lasts_so_long() -> None:
    none = Edge(tunnel_bytes=0, tunnel_lifetime=0)
    for route, edge in (
        (ROUTES[0], Edge(tunnel_bytes=1000)),
        (ROUTES[0], Edge(tunnel_lifetime=0.3)),
        (replace(ROUTES[0], tunnel_bytes=1000), none),
        (replace(ROUTES[0], tunnel_lifetime=0.3), none),
    ):
        async with rig(Echo(), routes=(route,), edge=edge) as r, client(r) as socket:
            await socket.send("x" * 400)
            assert await socket.recv() == "x" * 400
            with pytest.raises(ConnectionClosedError):
                await say_and_hear(socket)
            assert (await r.logged())[0]["flags"] == "TL"


async def test_a_route_may_lift_the_limits_of_its_gateway() -> None:
    routes = (replace(ROUTES[0], tunnel_bytes=0),)
    async with rig(Echo(), routes=routes, edge=Edge(tunnel_bytes=1000)) as r, client(r) as socket:
        await socket.send("x" * 4000)
        assert await socket.recv() == "x" * 4000


async def test_only_so_many_are_open_at_once() -> None:
    routes = (replace(ROUTES[0], max_upgrades=2),)
    async with rig(Echo(), routes=routes) as r:
        async with client(r) as first, client(r):
            with pytest.raises(InvalidStatus, match="503"):
                await client(r)
            await first.send("hello")
            assert await first.recv() == "hello"
        # A place is free when a tunnel has ended, and when an upgrade is declined.
        await r.logged(3)
        assert (await r.get("/")).status == 426
        for _ in range(3):
            with pytest.raises(InvalidStatus, match="404"):
                await client(r, "/nowhere")
        async with client(r), client(r):
            pass


async def test_a_cookie_takes_a_client_back_to_the_instance_it_talked_to() -> None:
    services = [Echo(instance_id=f"shop-{number}") for number in range(1, 4)]
    how = Upstreams(sticky=Sticky(), balancing=Balancing.ROUND_ROBIN)
    async with rig(*services, upstreams=how) as r:
        async with client(r) as socket:
            assert socket.response is not None
            said = socket.response.headers["set-cookie"]
            (home,) = (service for service in services if service.sockets)
        cookie = {"cookie": said.partition(";")[0]}
        for _ in range(3):
            async with connect(
                f"ws://{r.address.host}:{r.address.port}/", proxy=None, additional_headers=cookie
            ) as socket:
                assert socket.response is not None
                assert "set-cookie" not in socket.response.headers
                assert home.sockets


def test_limits_of_tunnels_are_not_negative() -> None:
    with pytest.raises(Misconfigured):
        replace(ROUTES[0], tunnel_lifetime=-1)
    with pytest.raises(Misconfigured):
        replace(ROUTES[0], tunnel_bytes=-1)
    with pytest.raises(Misconfigured):
        replace(ROUTES[0], max_upgrades=0)


async def test_an_upgrade_that_the_route_does_not_allow_is_not_passed_on() -> None:
    routes = (replace(ROUTES[0], upgrades=()),)
    async with rig(Echo(), routes=routes) as r:
        with pytest.raises(Exception, match="HTTP 4"):
            await client(r).__aenter__()


async def test_a_gateway_that_stops_lets_its_tunnels_end_and_then_ends_them() -> None:
    config = GatewayConfig(routes=ROUTES, drain=0.4, lame_duck=0.05)
    async with Echo() as service, AsyncExitStack() as gateway:
        server = Gateway(config, Static(service.instance))
        address = await gateway.enter_async_context(server.serving(Address("127.0.0.1", 0)))
        url = f"ws://{address.host}:{address.port}/"
        polite, other = [await connect(url, proxy=None) for _ in range(2)]
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(gateway.aclose())
            await eventually(lambda: server.proxy.draining)
            await polite.send("still here")
            assert await polite.recv() == "still here"
            await polite.close(1000, "done")
            assert not stopping.done()
            with pytest.raises(ConnectionClosedOK):
                await other.recv()
        assert other.close_code == 1001
        await eventually(lambda: sorted(service.closed) == [(1000, "done"), (1006, "")])


NODE = """
const socket = new WebSocket(process.argv[2]);
const wanted = "x".repeat(1 << 20);
socket.onopen = () => socket.send("hello");
socket.onmessage = (event) => {
  if (event.data === "hello") socket.send(wanted);
  else if (event.data === wanted) socket.send("close 4003");
  else process.exit(2);
};
socket.onclose = (event) => {
  process.exit(event.code === 4003 && event.reason === "as you say" ? 0 : 3);
};
"""


async def test_node_talks_through_the_gateway(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = tmp_path / "client.mjs"
    script.write_text(NODE)
    async with rig(Echo()) as r:
        url = f"ws://{r.address.host}:{r.address.port}/"
        # Node.js 20 has the client behind this flag; later ones know the flag and need none.
        process = await asyncio.create_subprocess_exec(
            node, "--experimental-websocket", str(script), url
        )
        assert await process.wait() == 0
