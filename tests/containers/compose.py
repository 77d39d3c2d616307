"""The shop as containers: its Compose file, read by what each engine has for that in Debian."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from shop.demo.books import Ledgers
from shop.demo.doors import Address, DemoFailed, Door, Doors
from tests.containers.conftest import SEAWALL
from tests.support.containers import Engine, checked, found
from tests.support.servers import free_port

SERVERS = Path(__file__).parent / "servers"

_PORT = 8080  # of every container


class Composed:
    """A running shop. `gateway` is where this machine reaches it."""

    def __init__(self, engine: Engine, gateway: Address) -> None:
        self.gateway = gateway
        self._engine = engine

    def names(self, service: str = "") -> list[str]:
        label = "com.docker.compose.service"
        wanted = f"label={label}={service}" if service else f"label={label}"
        words = ("ps", "--filter", wanted, "--format", "{{.Names}}")
        return sorted(self._engine.run(*words).split())

    def door(self, service: str) -> Door:
        """A replica's own, on the network of the containers."""
        for name in self.names(service):
            networks = self._engine.inspect(name)["NetworkSettings"]["Networks"]
            if address := next(iter(networks.values()))["IPAddress"]:
                return Door((address, _PORT))
        raise DemoFailed(f"no container of {service} runs")

    @property
    def doors(self) -> Doors:
        return Doors(self.door)

    def ledgers(self) -> Ledgers:
        return self.doors.ledgers()

    def kill(self, service: str) -> str:
        """SIGKILL to the first process of a container, which the engine does not take for our
        wish that it stay away."""
        name = self.names(service)[0]
        pid = self._engine.inspect(name)["State"]["Pid"]
        checked(["kill", "-9", str(pid)])
        return name

    def starts(self) -> Mapping[str, int]:
        """How often each was started again."""
        return {n: int(self._engine.inspect(n)["RestartCount"]) for n in self.names()}

    def told(self) -> str:
        """The last words of all, for a person whose test failed."""
        return "\n".join(f"== {n}\n{self._engine.logs(n)[-1500:]}" for n in self.names())


def server_images(engine: Engine, shop: str) -> None:
    """Stand-ins for the servers' images, under the names that the file has."""
    for name, tag in (
        ("valkey", "docker.io/valkey/valkey:8"),
        ("postgres", "docker.io/library/postgres:17"),
    ):
        form = ("--format", "docker") if engine.name == "podman" else ()
        words = ("--build-arg", f"shop={shop}", "--file", f"{SERVERS}/{name}.Dockerfile")
        engine.run("build", "--quiet", *form, *words, "--tag", tag, str(SERVERS))


@contextmanager
def composed(engine: Engine, shop: Path, folder: Path) -> Iterator[Composed]:
    """The shop is started for the block; containers, networks and volumes go with it."""
    port = free_port()
    command = [SEAWALL, "--project", str(shop), "deploy", "compose", "--out", str(folder)]
    checked(command, env={**engine.environment, "SEAWALL_GATEWAY__PORT": str(port)})
    (folder / ".env").write_text("POSTGRES_PASSWORD=not-in-the-file\n")
    compose = [found("podman-compose"), "--file", "compose.yaml"]
    if engine.name == "docker":
        # Debian's docker-compose is of before files had a name.
        file = yaml.safe_load((folder / "compose.yaml").read_text())
        name = file.pop("name")
        (folder / "unnamed.yaml").write_text(yaml.safe_dump(file))
        compose = [found("docker-compose"), "--compatibility", "--project-name", name]
        compose += ["--file", "unnamed.yaml"]
    try:
        checked([*compose, "up", "--detach"], env=engine.environment, cwd=folder)
        yield Composed(engine, ("127.0.0.1", port))
    finally:
        engine.remove_all()
        checked([*compose, "down", "--volumes"], env=engine.environment, cwd=folder)
        engine.run("network", "prune", "--force")  # which Debian's podman-compose leaves
