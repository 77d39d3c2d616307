"""Two gateway processes that accept from one socket; one is killed."""

import asyncio
import os
import socket
import sys

from tests.integration.gateway.rig import Client, Service, get
from tests.support.waiting import eventually

GATEWAY = """
import asyncio, socket, sys
import uvloop
from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.gateway import Gateway, Static
from seawall.topology import Address, Instance, InstanceState

async def main(fd: int, port: int) -> None:
    instance = Instance(service="shop", version="1.0.0", instance_id="shop-1", incarnation="1",
                        address=Address("127.0.0.1", port), state=InstanceState.READY)
    gateway = Gateway(GatewayConfig(routes=(Route(service="shop"),)), Static(instance))
    async with gateway.serving(socket.socket(fileno=fd)):
        print("ready", flush=True)
        await asyncio.Event().wait()

uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


async def test_killing_one_of_two_loses_only_its_own_connections() -> None:
    async with Service() as service:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listener.setblocking(False)
        port, fd = listener.getsockname()[1], listener.fileno()
        os.set_inheritable(fd, True)
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", GATEWAY, str(fd), str(service.port)),
                pass_fds=(fd,),
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(2)
        ]
        listener.close()
        try:
            for process in processes:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
            clients = [
                Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(200)
            ]
            for client in clients:
                await client.send(get())
                assert (await client.reply()).status == 200
            processes[0].kill()
            await processes[0].wait()
            lost = 0
            for client in clients:
                try:
                    await client.send(get())
                    assert (await client.reply()).status == 200
                except (asyncio.IncompleteReadError, ConnectionError):
                    lost += 1
                client.close()
            assert lost < len(clients)
            # Whoever comes now finds the other one, every time.
            for _ in range(50):
                client = Client(*await asyncio.open_connection("127.0.0.1", port))
                await client.send(get())
                assert (await client.reply()).status == 200
                client.close()
        finally:
            for process in processes:
                if process.returncode is None:
                    process.kill()
                await process.wait()
        await eventually(lambda: service.open == 0)
