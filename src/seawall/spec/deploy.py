"""The tables `[deploy]` and `[services.NAME.deploy]`: what only a cluster or an image needs."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from seawall.spec.part import Part

# The names that Kubernetes takes for a Secret, and for a key in it.
_SECRET = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/[A-Za-z0-9._-]{1,253}")


def _of_a_secret(place: str) -> str:
    if not _SECRET.fullmatch(place):
        raise ValueError(f'{place!r} names no key of a Secret: "orders-database/url"')
    return place


SecretKey = Annotated[str, AfterValidator(_of_a_secret)]


MountPath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._-]+)+$")]


class ServiceDeploySpec(Part):
    """What one service gets there. A replica is one process, so a core is all that it can use."""

    image: str = ""  # the project's if empty
    cpu: float = Field(default=0.1, gt=0, le=256)  # cores that are kept for a replica
    cpu_limit: float = Field(default=1.0, gt=0, le=256)  # cores it may use
    memory: int = Field(default=192, ge=16, le=1_048_576)  # MiB that are kept for it
    memory_limit: int = Field(default=512, ge=16, le=1_048_576)  # MiB; with more it is killed
    secrets: dict[str, SecretKey] = {}  # VARIABLE = "secret/key"
    mounts: dict[MountPath, str] = {}  # a folder with the files of that Secret
    writable: list[MountPath] = []  # folders that are empty at each start; /tmp is one
    live: str = ""  # of a command: answers 200 while it lives; a connection is tried without it
    scaler: Literal["hpa", "keda"] = "hpa"  # where `replicas` has a range; from 0 it is keda
    cpu_target: int = Field(default=70, ge=1, le=1000)  # per cent of `cpu`, for hpa
    backlog: int = Field(default=100, ge=1)  # messages for each replica, for keda


class DeploySpec(Part):
    """What the whole project gets there."""

    image: str = ""  # "shop:1.2.0"; the project's name with the tag `latest` if empty
    namespace: str = ""  # the project's name if empty
    host: str = ""  # by which clients ask, "shop.example"; any if empty
    tls_secret: str = ""  # a Secret with the certificate for that host
    pull_secret: str = ""  # a Secret with which images are pulled
    secrets: dict[str, SecretKey] = {}  # for every process: VARIABLE = "secret/key"
    egress_ports: list[Annotated[int, Field(ge=1, le=65535)]] = [5432, 6379]  # of servers outside
    # Connections that the database server takes, where `check` shall count them.
    database_connections: int | None = Field(default=None, ge=1)
    monitoring_namespace: str = ""  # of Prometheus' operator; without it nobody asks for metrics
    # Who tells autoscalers the figures that a cluster does not have: KEDA, which asks Seawall; or
    # Seawall itself as the cluster's API of external metrics, of which there is only one.
    metrics: Literal["keda", "adapter"] = "keda"
    gateway_class: str = "nginx"  # of the Gateway API's implementation
    # Who splits, mirrors and disturbs requests where Istio is: the mesh does it for routes with
    # exact versions.
    traffic: Literal["gateway", "mesh"] = "gateway"
    base_image: str = "python:3.13-slim"  # a Debian with Python
    requirements: str = "requirements.lock"  # with hashes; from the folder of seawall.toml
    wheels: str = ""  # a folder with wheels of your own that no index has, from there too
    packages: list[str] = []  # of Debian, in the image: ["nodejs"]
