"""Images and containers for real: `make test-containers`. Not among `make test`, since they take
minutes, root, and a kernel that lets them."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import Docker, Engine, Podman, base_image, checked
from tests.support.sharing import shared

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable
SEAWALL = str(Path(PYTHON).with_name("seawall"))


# What a folder of a project has beside its code, and no image may have.
PRIVATE = (
    ".env",
    ".seawall/data/users-key.json",
    "tls/server.key",
    "tls/server.pem",
    ".git/config",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.containers)
            item.add_marker(pytest.mark.timeout(900))  # images are built from packages


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("base")
    yield base_image(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's folder, and in it a wheel of this Seawall."""
    folder = tmp_path_factory.mktemp("context") / "shop"
    shutil.copytree(
        ROOT / "examples/shop",
        folder,
        ignore=shutil.ignore_patterns(".seawall", "__pycache__", "wheels"),
    )
    for name in PRIVATE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("private")
    wheel = [PYTHON, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    wheel += ["--no-build-isolation", "--wheel-dir", str(folder / "wheels"), str(ROOT)]
    checked(wheel)
    return folder


@pytest.fixture(scope="session")
def docker(base: Path) -> Iterator[Engine]:
    for engine in shared(lambda: Docker().start()):
        engine.load(base, "python:3.13-slim")
        yield engine


@pytest.fixture(scope="session")
def podman(base: Path) -> Iterator[Engine]:
    for engine in shared(lambda: Podman().start()):
        engine.load(base, "docker.io/library/python:3.13-slim")
        yield engine


@pytest.fixture(scope="session", params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture(scope="session")
def image(engine: Engine, project: Path) -> str:
    """The project's image, built as a user builds it."""
    command = [SEAWALL, "--project", str(project), "deploy", "image", "--build", "--json"]
    told = checked([*command, "--builder", engine.name], env=engine.environment)
    made = json.loads(told)
    assert made["builder"] == engine.name
    return str(made["image"])
