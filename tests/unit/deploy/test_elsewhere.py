"""Images, Compose files and units: what they say, and that their readers read it."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from seawall.deploy.compose import compose, databases
from seawall.deploy.image import dockerfile, dockerignore
from seawall.deploy.units import procfile, systemd
from seawall.deploy.workload import Workload, workloads
from seawall.deploy.yaml_text import written
from seawall.errors import Misconfigured
from seawall.spec.project import Spec
from tests.unit.deploy.projects import DECLARED, EVERYTHING, SMALL, project


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return project(tmp_path, EVERYTHING)


@pytest.fixture
def all_of_them(spec: Spec) -> tuple[Workload, ...]:
    return workloads(spec, DECLARED)


# image


def test_the_image_has_locked_dependencies_and_no_root(tmp_path: Path) -> None:
    text = SMALL + '[deploy]\npackages = ["nodejs"]\nrequirements = "./locks/all.txt"\n'
    lines = dockerfile(project(tmp_path, text)).splitlines()
    assert 'COPY ["locks/all.txt", "/tmp/requirements.lock"]' in lines
    assert any("--require-hashes" in line for line in lines)
    assert any("install -qq -y --no-install-recommends nodejs" in line for line in lines)
    assert lines.index("FROM python:3.13-slim") > lines.index("FROM python:3.13-slim AS build")
    assert "USER 10001:10001" in lines
    assert lines[-1].startswith("CMD ")


def test_a_project_may_need_the_folder_above(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    made = dockerfile(project(folder, SMALL + 'cwd = ".."\n[deploy]\nwheels = "wheels"\n'))
    assert "WORKDIR /app/shop\n" in made  # where seawall.toml is
    assert 'COPY ["shop/requirements.lock", "/tmp/requirements.lock"]\n' in made
    assert 'COPY ["shop/wheels", "/tmp/wheels"]\n' in made
    assert "--no-index /tmp/wheels/*.whl\n" in made


def test_what_a_build_would_not_find_is_said_before_it(tmp_path: Path) -> None:
    spec = project(tmp_path, SMALL + '[deploy]\nrequirements = "../all.lock"\n')
    with pytest.raises(Misconfigured, match=r"\.\./all\.lock is outside of"):
        dockerfile(spec)


def test_keys_and_data_of_this_machine_stay_here() -> None:
    ignored = dockerignore().splitlines()
    assert {"**/.seawall", "**/.env", "**/*.key", "**/.git"} <= set(ignored)


# compose


def test_compose_starts_servers_and_waits_for_them(
    spec: Spec, all_of_them: tuple[Workload, ...]
) -> None:
    made = yaml.safe_load(written([compose(spec, all_of_them)]))
    services = made["services"]
    assert list(services) == [
        *("valkey", "postgres", "mails", "orders", "stock", "users", "gateway")
    ]
    orders = services["orders"]
    assert set(orders["depends_on"]) == {"valkey", "postgres"}
    assert orders["deploy"]["replicas"] == 2
    assert orders["stop_grace_period"] == "25s"
    assert orders["volumes"] == ["./secrets/keys:/run/keys:ro"]
    assert orders["environment"]["SEAWALL_MESSAGES__URL"] == "redis://valkey:6379/0"
    assert orders["environment"]["PAYMENT_TOKEN"] == "${PAYMENT_TOKEN}"
    assert (
        "./databases.sql:/docker-entrypoint-initdb.d/databases.sql:ro"
        in (services["postgres"]["volumes"])
    )
    assert databases(all_of_them).splitlines()[1:] == [
        'CREATE DATABASE "orders";',
        'CREATE DATABASE "users";',
    ]
    assert services["gateway"]["ports"] == ["8000:8080"]
    assert "secret@" not in str(made)


def test_compose_has_the_broker_that_messages_take(tmp_path: Path) -> None:
    spec = project(tmp_path, SMALL.replace("redis://valkey:6379/0", "amqp://a:b@broker/", 1))
    services = compose(spec, workloads(spec, {}))["services"]
    assert list(services)[:2] == ["valkey", "rabbitmq"]
    told = services["orders"]["environment"]["SEAWALL_MESSAGES__URL"]
    assert told == "amqp://seawall:${RABBITMQ_PASSWORD}@rabbitmq:5672/"


# units


def test_systemd_waits_for_the_longest_drain(
    spec: Spec, all_of_them: tuple[Workload, ...], tmp_path: Path
) -> None:
    unit = systemd(spec, all_of_them, folder=str(tmp_path), program="/bin/true")
    assert "ExecStart=/bin/true up\n" in unit
    assert "TimeoutStopSec=26\n" in unit  # the gateway's 20 s, and closing twice
    assert "SuccessExitStatus=143\n" in unit  # a stop is no failure
    assert "KillMode=process\n" in unit  # what a killed one leaves, the next one takes over
    if shutil.which("systemd-analyze") is not None:
        file = tmp_path / "shop.service"
        file.write_text(unit.replace("User=shop\n", ""))  # who need not exist here
        command = ["systemd-analyze", "verify", "--man=no", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "shop.service" not in done.stderr, done.stderr


def test_a_procfile_has_a_line_for_each(spec: Spec, all_of_them: tuple[Workload, ...]) -> None:
    lines = procfile(spec, all_of_them).splitlines()[1:]
    told = dict(line.split(": ", 1) for line in lines)
    assert told["gateway"] == "seawall gateway run"
    assert told["orders"] == "cd orders && exec seawall serve orders:service"
    assert shlex.split(told["stock"]) == ["node", "server.js"]
