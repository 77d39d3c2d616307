"""What is to run, whoever runs it: one `Workload` for each service and one for the gateway.

Made from the spec and from what the code declares; objects of Kubernetes, Compose files and
units are views of it.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from seawall.deploy.declared import Declarations, Declared
from seawall.errors import Misconfigured
from seawall.spec.deploy import ServiceDeploySpec
from seawall.spec.probes import ProbesSpec
from seawall.spec.project import ServiceSpec, Spec
from seawall.spec.scaling import ScaleSpec

# Where the project's files are in the image.
HOME = "/app"

PORT = 8080  # of every container; processes that are not root have none below 1024
ADMIN_PORT = 9901  # of the gateway: probes and metrics, for operators only

# Where a pod finds its certificate, and who may call it.
IDENTITY = "/run/identity"

# How long after their deletion callers still send requests to a pod: endpoints, proxies and
# ingress controllers follow one after the other, usually within a second or two.
PROPAGATION = 5.0  # seconds

# What closing takes when nothing is under way any more: `seawall.service.serve` allows a
# service ten seconds, the others need three.
CLOSING_SERVICE, CLOSING = 10.0, 3.0  # seconds

GATEWAY = "gateway"
ADAPTER = "metrics-adapter"  # tells autoscalers what a cluster does not know
REPLICAS = f"{GATEWAY}-replicas"  # a name that stands for every gateway, not for one of them


@dataclass(frozen=True, slots=True, order=True)
class SecretRef:
    """An environment variable whose value is the key of a Secret."""

    variable: str
    secret: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Which paths answer 200 when it has started, may get requests, and lives. "" = connect."""

    started: str
    ready: str
    live: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A program with what it needs. Times are in seconds, memory in MiB, CPU in cores."""

    name: str
    version: str
    image: str
    command: tuple[str, ...]
    folder: str  # in the image
    environment: Mapping[str, str]
    secrets: tuple[SecretRef, ...]
    reads_files: bool  # it understands VARIABLE_FILE
    paths: Paths
    probe_port: int
    metrics_port: int | None
    replicas: tuple[int, int]
    start_within: float
    drain: float  # for what is under way, after callers have stopped sending
    closing: float
    drains_itself: bool  # it goes on answering after SIGTERM, until callers have heard
    callers: tuple[str, ...]
    callees: tuple[str, ...]
    size: ServiceDeploySpec
    cluster_registry: bool
    scale: tuple[ScaleSpec, ...] = ()
    speaks_tls: bool = False
    has_identity: bool = False  # a certificate is mounted, by which it answers and calls
    probes: ProbesSpec = field(default_factory=ProbesSpec)
    declared: Declared = field(default_factory=Declared)

    @property
    def is_gateway(self) -> bool:
        return self.name == GATEWAY

    @property
    def is_adapter(self) -> bool:
        return self.name == ADAPTER

    @property
    def asks_the_cluster(self) -> bool:
        """Whether it finds others by the cluster's own registry, and so needs a token."""
        return self.reads_files and self.cluster_registry

    @property
    def grace(self) -> float:
        """Seconds from the decision to stop it until it may be killed."""
        return PROPAGATION + self.drain + self.closing

    @property
    def ports(self) -> Mapping[str, int]:
        own = {"https" if self.speaks_tls else "http": PORT}
        return {**own, "admin": ADMIN_PORT} if self.is_gateway else own


def workloads(spec: Spec, declared: Declarations) -> tuple[Workload, ...]:
    """All of them, the gateway last, services by name. Raises `Misconfigured`."""
    for name in (GATEWAY, ADAPTER):
        if name in spec.services:
            raise Misconfigured(
                f"a service and the {name.replace('-', ' ')} would both be called {name!r}",
                fix="give the service another name",
            )
    callees = {name: _callees(name, spec, declared) for name in sorted(spec.services)}
    callees[GATEWAY] = _behind_gateway(spec)
    callers: dict[str, list[str]] = {name: [] for name in callees}
    for name, needed in callees.items():
        for callee in needed:
            callers[callee].append(name)
    made = []
    for name in sorted(spec.services):
        said = declared.get(name, Declared())
        calls = tuple(sorted(callers[name])), callees[name]
        made.append(_service(name, spec, said, calls))
    return (*made, _gateway(spec, callees[GATEWAY]))


def _callees(name: str, spec: Spec, declared: Declarations) -> tuple[str, ...]:
    said = declared.get(name, Declared())
    called = {call.callee for call in said.calls}
    return tuple(sorted({*spec.services[name].needs, *said.needs, *called} & spec.services.keys()))


def _behind_gateway(spec: Spec) -> tuple[str, ...]:
    """Those that routes name, and those that sign the tokens it checks."""
    routed = {to for route in spec.gateway.routes for _, to in route.services()}
    keys = (auth.jwks or "" for auth in spec.gateway.auth.values())
    signing = {key.removeprefix("service:").split("/")[0] for key in keys if ":" in key}
    return tuple(sorted(routed | (signing & spec.services.keys())))


def _service(
    name: str,
    spec: Spec,
    declared: Declared,
    calls: tuple[tuple[str, ...], tuple[str, ...]],
) -> Workload:
    service = spec.services[name]
    module = service.module
    leaves_by_itself = module is not None or _is_attended(service, spec)
    environment = {
        "HOST": "0.0.0.0",
        "PORT": str(PORT),
        **dict(_times(service, leaves_by_itself)),
    }
    if service.priority:
        environment["SEAWALL_PRIORITY"] = str(service.priority)
    if service.zone:
        environment["SEAWALL_ZONE"] = service.zone
    if service.admission is not None:
        environment["SEAWALL_ADMISSION"] = service.admission.model_dump_json()
    secrets = _secrets(spec) | _database(name, service, declared, environment)
    secrets |= service.deploy.secrets
    environment |= service.env
    for variable in secrets.keys() & service.env.keys():
        del environment[variable]  # a Secret is the more careful place
    live = service.deploy.live
    paths = Paths(started="/startupz", ready=service.health, live="/livez")
    if module is None:
        paths = Paths(started=service.health, ready=service.health, live=live)
    return Workload(
        name=name,
        version=declared.version or service.version,
        image=service.deploy.image or image_of(spec),
        command=_command(name, spec),
        folder=image_folder(spec, service.cwd),
        environment=dict(sorted(environment.items())),
        secrets=_refs(secrets),
        reads_files=module is not None,
        paths=paths,
        probe_port=PORT,
        metrics_port=PORT if module is not None else None,
        replicas=(service.replicas.min, service.replicas.max),
        start_within=service.start_within,
        drain=service.drain,
        closing=CLOSING if module is None else CLOSING_SERVICE,
        drains_itself=leaves_by_itself,
        callers=calls[0],
        callees=calls[1],
        size=service.deploy,
        probes=service.probes,
        cluster_registry=cluster_registry(spec),
        scale=tuple(service.scale),
        declared=declared,
    )


def _is_attended(service: ServiceSpec, spec: Spec) -> bool:
    """Whether a command is listed, and seen to leave, by the `seawall` that it is a child of.
    The cluster's own registry knows it anyway, and an image of its own may have no Seawall."""
    own_image = service.deploy.image
    return service.module is None and not own_image and not cluster_registry(spec)


def _command(name: str, spec: Spec) -> tuple[str, ...]:
    service = spec.services[name]
    if service.module is not None:
        return "seawall", "serve", service.module
    command = tuple(service.command or ())
    if not _is_attended(service, spec):
        return command
    known = ("--version", service.version, "--health", service.health)
    return "seawall", "register", name, *known, "--", *command


def _gateway(spec: Spec, callees: tuple[str, ...]) -> Workload:
    environment = {
        "SEAWALL_ADMIN": f"0.0.0.0:{ADMIN_PORT}",
        "SEAWALL_GATEWAY__HOST": "0.0.0.0",
        "SEAWALL_GATEWAY__PORT": str(PORT),
    }
    return Workload(
        name=GATEWAY,
        version="0.0.0",
        image=image_of(spec),
        command=("seawall", "gateway", "run"),
        folder=image_folder(spec, "."),
        environment=environment,
        secrets=_refs(_secrets(spec)),
        reads_files=True,
        paths=Paths(started="/livez", ready="/readyz", live="/livez"),
        probe_port=ADMIN_PORT,
        metrics_port=ADMIN_PORT,
        replicas=(spec.gateway.replicas, spec.gateway.replicas),
        start_within=30.0,
        drain=spec.gateway.drain,
        closing=CLOSING,
        drains_itself=False,
        callers=(),
        callees=callees,
        size=ServiceDeploySpec(),
        cluster_registry=cluster_registry(spec),
    )


def adapter(spec: Spec, asked: tuple[str, ...], *, tls: bool) -> Workload:
    """The metrics adapter, which asks those services and the gateway for their figures."""
    command = ["seawall", "metrics-adapter", "--host", "0.0.0.0", "--port", str(PORT)]
    command += ["--gateway", f"{REPLICAS}:{ADMIN_PORT}", *(["--tls"] if tls else [])]
    return Workload(
        name=ADAPTER,
        version="0.0.0",
        image=image_of(spec),
        command=tuple(command),
        folder=image_folder(spec, "."),
        environment={},
        secrets=_refs(_secrets(spec)),
        reads_files=True,
        paths=Paths(started="/livez", ready="/readyz", live="/livez"),
        probe_port=PORT,
        metrics_port=None,
        replicas=(1, 1),
        start_within=30.0,
        drain=0.0,
        closing=CLOSING,
        drains_itself=False,
        callers=(),
        callees=(*asked, GATEWAY),
        size=ServiceDeploySpec(),
        cluster_registry=cluster_registry(spec),
        speaks_tls=tls,
    )


def _times(service: ServiceSpec, drains_itself: bool) -> Iterator[tuple[str, str]]:
    """A service counts the time in which callers learn of its leaving as part of its drain."""
    drain = service.drain + (PROPAGATION if drains_itself else 0.0)
    yield "SEAWALL_DRAIN_SECONDS", f"{drain:g}"
    if drains_itself:
        yield "SEAWALL_PROPAGATION_SECONDS", f"{PROPAGATION:g}"


def _servers(spec: Spec) -> Iterator[tuple[str, str | None]]:
    yield "registry", spec.registry.url
    yield "messages", spec.messages.url
    if spec.sessions.url is not None:
        yield "sessions", spec.sessions.url


def cluster_registry(spec: Spec) -> bool:
    """Whether the cluster itself says who runs."""
    return spec.registry.url is not None and urlsplit(spec.registry.url).scheme == "kubernetes"


def _secrets(spec: Spec) -> dict[str, str]:
    """Where the addresses of servers are kept that the spec does not know, or may not show."""
    found = {
        f"SEAWALL_{kind.upper()}__URL": f"{spec.project.name}-servers/{kind}-url"
        for kind, url in _servers(spec)
        if not is_public(url)
    }
    return found | spec.deploy.secrets


def shared_environment(spec: Spec) -> dict[str, str]:
    """What every process of the project is told and anybody may know."""
    told = {
        f"SEAWALL_{kind.upper()}__URL": str(url) for kind, url in _servers(spec) if is_public(url)
    }
    if spec.profile:
        told["SEAWALL_PROFILE"] = spec.profile
    kept = {name: value for name, value in told.items() if name not in spec.deploy.secrets}
    return dict(sorted(kept.items()))


def is_public(url: str | None) -> bool:
    """Whether it is an address that others reach, without a password in it."""
    if url is None:
        return False
    parts = urlsplit(url)
    return parts.password is None and parts.scheme not in ("unix", "memory")


def _database(
    name: str, service: ServiceSpec, declared: Declared, environment: dict[str, str]
) -> dict[str, str]:
    """A file in a pod is gone with it, so a service with a database gets a server's address."""
    if service.database is not None and is_public(service.database):
        environment["SEAWALL_DATABASE__URL"] = service.database
        return {}
    if service.database is None and declared.pool is None:
        return {}
    return {"SEAWALL_DATABASE__URL": f"{name}-database/url"}


def _refs(secrets: Mapping[str, str]) -> tuple[SecretRef, ...]:
    split = ((variable, *place.split("/")) for variable, place in secrets.items())
    return tuple(sorted(SecretRef(variable, secret, key) for variable, secret, key in split))


def image_of(spec: Spec) -> str:
    return spec.deploy.image or f"{spec.project.name}:latest"


def context_folder(spec: Spec) -> Path:
    """The folder with all that the image needs: the project's, or one above it."""
    root = os.path.normpath(spec.root)
    folders = [os.path.normpath(os.path.join(root, one.cwd)) for one in spec.services.values()]
    return Path(os.path.commonpath([root, *folders]))


def context_path(spec: Spec, path: str) -> str:
    """A path that starts at the project's folder, from the context's. Raises `Misconfigured` if
    it leads out of that, where no build finds it."""
    full = os.path.normpath(os.path.join(spec.root, path))
    relative = os.path.relpath(full, context_folder(spec))
    if relative.startswith(os.pardir):
        raise Misconfigured(
            f"{path} is outside of {context_folder(spec)}, from which the image is built",
            fix="copy it there",
        )
    return relative


def image_folder(spec: Spec, cwd: str) -> str:
    """Where that folder of the project is in the image."""
    relative = context_path(spec, cwd)
    return HOME if relative == "." else f"{HOME}/{relative}"
