"""The Deployments of `seawall deploy kubernetes`, started by `podman kube play`.

It is no cluster, and what it has not is stood in for: there is no API that says who runs (the
registry is a Valkey, in which commands are listed by who attends them), and so no Services; there
are no Secrets (each is a ConfigMap here) and no probes of named ports. It opens every port of a pod
on the machine, where two pods would want the same one. Everything else of a pod is as it is
written: its command, environment, user, limits, read-only root and mounts.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from seawall.identity.signing import SigningKey
from shop.demo.doors import Door, Doors
from tests.containers.compose import server_images
from tests.containers.conftest import ROOT, SEAWALL
from tests.containers.opening import is_open
from tests.support.containers import Engine, checked
from tests.support.waiting import eventually_sync

PASSWORD = "for-this-test"
NETWORK = "shop"
REGISTRY = "redis://valkey.servers:6379/0"  # the host that the profile has for messages

Document = Mapping[str, Any]


def playable(documents: Sequence[Document], secrets: Mapping[str, Mapping[str, str]]) -> str:
    """What podman plays of a cluster's objects, as text; `secrets` by name and key."""
    kept: list[Document] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(data)}
        for name, data in secrets.items()
    ]
    for document in documents:
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            for absent in ("ports", "startupProbe", "readinessProbe", "livenessProbe"):
                container.pop(absent, None)
            pod["volumes"] = [_volume(volume) for volume in pod["volumes"]]
        if document["kind"] in ("Deployment", "ConfigMap"):
            kept.append(document)
    return yaml.safe_dump_all(kept)


def _volume(volume: Document) -> Document:
    if "projected" in volume:
        (source,) = volume["projected"]["sources"]  # one Secret of each service
        found = source["secret"]
        return {"name": volume["name"], "configMap": dict(found)}
    if "secret" in volume:
        return {"name": volume["name"], "configMap": {"name": volume["secret"]["secretName"]}}
    return volume


def secrets(documents: Sequence[Document], folder: Path) -> Mapping[str, Mapping[str, str]]:
    """What a person would have made with kubectl: each service's database, and a key."""
    SigningKey.load_or_create(str(folder / "key"))
    found = {"users-key": {"users-key.json": (folder / "key").read_text()}}
    for document in documents:
        name = document["metadata"]["name"]
        if document["kind"] == "Deployment" and f"{name}-database" in json.dumps(document):
            url = f"postgresql+asyncpg://postgres:{PASSWORD}@postgres:5432/{name}"
            found[f"{name}-database"] = {"url": url}
    return found


@pytest.fixture
def pods(engine: Engine, image: str, project: Path, tmp_path: Path) -> Iterator[Engine]:
    server_images(engine, image)
    command = [SEAWALL, "--project", str(project), "--profile", "cluster", "deploy", "kubernetes"]
    text = checked(command, env={**engine.environment, "SEAWALL_REGISTRY__URL": REGISTRY})
    documents = list(yaml.safe_load_all(text))
    made = secrets(documents, tmp_path)
    databases = [name.removesuffix("-database") for name in made if name.endswith("-database")]
    lines = "".join(f'CREATE DATABASE "{name}";\n' for name in databases)
    (tmp_path / "databases.sql").write_text(lines)
    file = tmp_path / "pods.yaml"
    file.write_text(playable(documents, made))
    engine.run("network", "create", NETWORK)
    try:
        detached = ("run", "--detach", "--network")
        valkey = ("docker.io/valkey/valkey:8", "valkey-server")
        engine.run(*detached, f"{NETWORK}:alias=valkey.servers", *valkey)
        script = f"{tmp_path}/databases.sql:/docker-entrypoint-initdb.d/databases.sql:ro"
        told = ("--volume", script, "--env", f"POSTGRES_PASSWORD={PASSWORD}")
        postgres = "docker.io/library/postgres:17"
        engine.run(*detached, f"{NETWORK}:alias=postgres", *told, postgres)
        engine.run("kube", "play", "--network", NETWORK, str(file))
        yield engine
    finally:
        engine.run("pod", "rm", "--all", "--force", "--time", "0")
        engine.remove_all()
        engine.run("volume", "prune", "--force")
        engine.run("network", "rm", NETWORK)


@pytest.mark.parametrize("engine", ["podman"], indirect=True, scope="session")
def test_an_order_goes_through_the_pods(pods: Engine) -> None:
    def door(service: str) -> Door:
        infra = pods.run("pod", "inspect", f"{service}-pod-0", "--format", "{{.InfraContainerID}}")
        networks = pods.inspect(infra.strip())["NetworkSettings"]["Networks"]
        return Door((networks[NETWORK]["IPAddress"], 8080))

    gateway = door("gateway")
    eventually_sync(lambda: is_open(gateway, Doors(door)), within=60.0)
    host, port = gateway.address
    done = subprocess.run(
        [sys.executable, "-m", "shop.demo.order", "--gateway", f"{host}:{port}"],
        cwd=ROOT / "examples",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "it is completed; the mail:" in done.stdout, done.stdout + done.stderr
    assert "We charged 25.00 €" in done.stdout
