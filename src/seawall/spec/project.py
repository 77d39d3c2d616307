"""The whole of `seawall.toml`: project, servers, services, and the gateway's tables."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from seawall.spec.admission import AdmissionSpec
from seawall.spec.deploy import DeploySpec, ServiceDeploySpec
from seawall.spec.gateway import GatewaySpec, RouteSpec
from seawall.spec.identity import IdentitySpec
from seawall.spec.part import Part, known
from seawall.spec.probes import ProbesSpec
from seawall.spec.scaling import ScaleSpec, check_scaling
from seawall.spec.sizes import Size
from seawall.topology import parse_version, service_name


class Project(Part):
    name: str = ""  # the folder's name if empty


class Server(Part):
    """A server that Seawall uses. Without a URL an embedded Valkey is started."""

    url: str | None = None


def _replicas(value: object) -> object:
    if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
        return {"min": int(value), "max": int(value)}
    return value


class Replicas(Part):
    """How many copies: `replicas = 2`, or `{ min = 1, max = 8 }` where they may be scaled."""

    min: int = Field(default=1, ge=0, le=1000)
    max: int = Field(default=1, ge=0, le=1000)

    @model_validator(mode="after")
    def _ordered(self) -> "Replicas":
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self


class RestartSpec(Part):
    """When a replica dies again and again: at `intensity` deaths within `period` seconds, it is
    tried for ever ("try"), given up until a person acts ("give-up"), or ends the whole project
    ("stop")."""

    intensity: int = Field(default=5, ge=1, le=1000)
    period: float = Field(default=60.0, gt=0, le=86_400)  # seconds
    then: Literal["try", "give-up", "stop"] = "try"


class ServiceSpec(Part):
    """One service: a Python module that holds a `Service`, or any command that listens on $PORT."""

    module: str | None = None  # "orders.app:service"
    command: list[str] | None = None  # ["node", "server.js"]
    version: str = "0.0.0"  # of a command; a Service says its own
    replicas: Annotated[Replicas, BeforeValidator(_replicas)] = Replicas()
    scale: list[ScaleSpec] = []  # what decides between the two; without it a person does
    admission: AdmissionSpec | None = None  # None: as many requests at once as its code says
    # Processes of a Python service that have imported it and wait to be a replica.
    standbys: int = Field(default=0, ge=0, le=16)
    needs: list[str] = []  # services it calls
    env: dict[str, str] = {}
    database: str | None = None  # SQLAlchemy URL; without it a SQLite file in .seawall/data
    health: str = "/readyz"  # answers 200 when ready
    probes: ProbesSpec = ProbesSpec()
    restart: RestartSpec = RestartSpec()
    # A replica that uses more is replaced: "512MiB".
    memory_limit: Size | None = Field(default=None, ge=1)
    port: int = Field(default=0, ge=0, le=65535)  # of the first replica; 0 = any free one
    zone: str = ""  # where it runs; SEAWALL_ZONE if empty
    priority: int = Field(default=0, ge=0, le=127)  # the lowest is asked first
    cwd: str = "."  # from the project's folder
    start_within: float = Field(default=30.0, gt=0, le=3600)  # seconds to become ready
    drain: float = Field(default=10.0, ge=0, le=3600)  # seconds to finish what is under way
    mtls: bool = True  # where [identity] has mtls: false for what answers in plain text only
    optional: bool = False  # left out, with a word, if its command is not on this machine
    deploy: ServiceDeploySpec = ServiceDeploySpec()

    @model_validator(mode="after")
    def _runnable(self) -> "ServiceSpec":
        if (self.module is None) == (self.command is None):
            raise ValueError('needs either module = "package.module:name" or command = ["..."]')
        if self.module is not None and ":" not in self.module:
            raise ValueError(f'module {self.module!r} names no object: "package.module:name"')
        if self.standbys and self.command is not None:
            raise ValueError("standbys are of Python services: a command cannot wait half started")
        liveness = self.probes.liveness
        if self.command is not None and liveness is not None and not liveness.asks:
            raise ValueError("probes.liveness of a command needs one of path, tcp and exec")
        if self.command is not None and self.admission is not None:
            raise ValueError(
                "admission is of a module; fix: for a command, gateway.upstreams.NAME.adaptive"
            )
        parse_version(self.version)
        check_scaling(
            *(self.scale, self.replicas.min, self.replicas.max),
            listens_itself=self.command is not None,
        )
        return self


class Spec(Part):
    """The whole project. `root` is its folder, `origins` says where each value came from."""

    project: Project = Project()
    registry: Server = Server()
    messages: Server = Server()
    sessions: Server = Server()
    gateway: GatewaySpec = GatewaySpec()
    identity: IdentitySpec = IdentitySpec()
    deploy: DeploySpec = DeploySpec()
    services: dict[str, ServiceSpec] = {}
    profile: str | None = Field(default=None, exclude=True)
    root: Path = Field(default=Path(), exclude=True)
    origins: dict[str, str] = Field(default={}, exclude=True)

    def _check_route(self, route: RouteSpec, where: str) -> None:
        for key, service in route.services():
            known(service, self.services, f"{where}.{key}")
        if route.auth is not None:
            known(route.auth, self.gateway.auth, f"{where}.auth")

    @model_validator(mode="after")
    def _consistent(self) -> "Spec":
        for name, service in self.services.items():
            service_name(name)
            for need in service.needs:
                known(need, self.services, f"services.{name}.needs")
        for number, route in enumerate(self.gateway.routes):
            self._check_route(route, f"gateway.routes[{number}]")
        for name, auth in self.gateway.auth.items():
            for key in auth.keys:
                if key.plan is not None:
                    known(key.plan, self.gateway.plans, f"gateway.auth.{name}.keys.{key.subject}")
        if any(route.plans for route in self.gateway.routes):
            known(self.gateway.default_plan, self.gateway.plans, "gateway.default_plan")
        return self

    @model_validator(mode="after")
    def _upstreams_known(self) -> "Spec":
        for name in self.gateway.upstreams.keys() - {"*"}:
            known(name, self.services, "gateway.upstreams")
        return self
