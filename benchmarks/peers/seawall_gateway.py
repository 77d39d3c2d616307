"""Our gateway with every default policy on, as `python -m benchmarks.peers.seawall_gateway`.

A thousand routes, eight instances (of one address, so that the upstream is everybody's), breakers,
retry budget, deadlines, trace context, metrics and the JSON access log to a file.
"""

import asyncio
import gc
import signal
import sys

import uvloop

from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.gateway import Gateway, Static
from seawall.topology import Address, Instance, InstanceState


async def main(port: int, upstream: int, log: str) -> None:
    instances = [
        Instance(
            service="things",
            version="1.0.0",
            instance_id=f"things-{number}",
            incarnation="1",
            address=Address("127.0.0.1", upstream),
            state=InstanceState.READY,
        )
        for number in range(8)
    ]
    routes = [Route(service="things", path=f"/api/v1/r{number}") for number in range(999)]
    config = GatewayConfig(
        routes=(*routes, Route(service="things")), access_log=log, drain=0.1, lame_duck=0.0
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Gateway(config, Static(*instances)).serving(Address("127.0.0.1", port)):
        gc.collect()
        gc.freeze()
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
