"""Our gateway with every default policy on, as `python -m benchmarks.peers.seawall_gateway`.

Routes, each with a limiter that counts and never refuses; eight instances (of one address, so that
the upstream is everybody's), breakers, retry budget, deadlines, trace context, metrics and the JSON
access log to a file. With a key, every route asks for a token that was signed by it.
"""

import argparse
import asyncio
import gc
import signal

import uvloop

from seawall.gateway.auth import Provider
from seawall.gateway.config import Edge, GatewayConfig, Route
from seawall.gateway.gateway import Gateway, Static
from seawall.gateway.limits import Limit, LimitBy
from seawall.identity.keys import LocalKeys
from seawall.identity.signing import SigningKey
from seawall.identity.tokens import TokenVerifier
from seawall.topology import Address, Instance, InstanceState

# Asked for each request, and above what any load of the benchmark sends.
LIMIT = Limit(rate=1_000_000, burst=1_000_000, by=LimitBy.ADDRESS)


def instances(port: int) -> list[Instance]:
    return [
        Instance(
            service="things",
            version="1.0.0",
            instance_id=f"things-{number}",
            incarnation="1",
            address=Address("127.0.0.1", port),
            state=InstanceState.READY,
        )
        for number in range(8)
    ]


def configuration(routes: int, log: str | None, auth: str = "") -> GatewayConfig:
    paths = (*(f"/api/v1/r{number}" for number in range(routes - 1)), "/")
    return GatewayConfig(
        routes=tuple(Route(service="things", path=p, limits=(LIMIT,), auth=auth) for p in paths),
        # Ten thousand idle clients, and those of the load.
        edge=Edge(max_connections=12_000),
        access_log=log,
        drain=0.1,
        lame_duck=0.0,
    )


async def main(chosen: argparse.Namespace) -> None:
    providers: dict[str, Provider] = {}
    auth = ""
    if chosen.key:
        auth = "users"
        keys = LocalKeys([SigningKey.load_or_create(chosen.key).verify_key()])
        providers[auth] = Provider(TokenVerifier(keys))
    config = configuration(chosen.routes, chosen.log, auth)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    gateway = Gateway(config, Static(*instances(chosen.upstream)), providers=providers)
    async with gateway.serving(Address("127.0.0.1", chosen.port)):
        gc.collect()
        gc.freeze()
        await stop.wait()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("upstream", type=int)
    parser.add_argument("log")
    parser.add_argument("--routes", type=int, default=1000)
    parser.add_argument("--key", help="a file with the key that signs tokens")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main(arguments()))
