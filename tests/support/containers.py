"""Docker and podman with folders, sockets and processes of their own: what a test leaves goes
with them, and what else runs on this machine is not touched.

Each has a folder `bin` in which its program is found first, so that whatever calls `docker` or
`podman` by name calls this one.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from tests.support.firewall import Firewall
from tests.support.servers import missing

# In a base image: what the image of a project is built upon, and packages are fetched with.
_BASE = ("python3-venv", "ca-certificates")
_SUITE = "bookworm"

# Of a mount, a daemon's start, a container's stop.
_WITHIN = 60.0  # seconds

# The second hierarchy of cgroups, on machines that have both; crun refuses to work beside it.
_SECOND = Path("/sys/fs/cgroup/unified")

# Podman asks for a million open files and processes, which not every machine may grant.
_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/tmp"
[network]
network_config_dir = "{folder}/networks"
"""
_STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{folder}/images"
runroot = "{folder}/run"
"""


def found(program: str) -> str:
    """Where it is. Debian puts daemons where only root looks."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        missing(f"{program} (scripts/containers)")
    return path


def base_image(folder: Path) -> Path:
    """A small Debian with Python, as a tar file; it trusts whom this machine trusts."""
    made = folder / "base.tar"
    trusted = "/etc/ssl/certs"
    checked(
        [
            *(found("mmdebstrap"), "--quiet", "--variant=minbase", f"--include={','.join(_BASE)}"),
            f"--customize-hook=copy-in {trusted}/ca-certificates.crt {trusted}",
            *(_SUITE, str(made)),
        ]
    )
    return made


def checked(command: list[str], **more: Any) -> str:
    """What a command that must succeed says on its standard output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    said = (done.stdout + done.stderr)[-4000:]
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{said}"
    return done.stdout


class Engine:
    """What docker and podman have in common: their command line."""

    name: str
    _at_once: tuple[str, ...] = ()
    _firewall: Firewall

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"seawall-{self.name}-"))
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        return () if self._process is None else (self._process.pid,)

    @property
    def environment(self) -> Mapping[str, str]:
        """In which a program finds this engine."""
        return {**os.environ, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}

    def run(self, *words: str, **more: Any) -> str:
        """What the engine answers. It must succeed."""
        return checked([str(self.bin / self.name), *words], env=self.environment, **more)

    def is_healthy(self, name: str) -> bool:
        """Whether a container's health check passes. Raises when it runs no more."""
        raise NotImplementedError

    def load(self, image: Path, *names: str) -> None:
        """A root file system as an image, under these names."""
        for name in names:
            with image.open("rb") as root:
                self.run("import", "-", name, stdin=root)

    def containers(self) -> list[str]:
        return self.run("ps", "--all", "--quiet").split()

    def inspect(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.run("inspect", name))[0])

    def logs(self, name: str) -> str:
        """What it said last, on either of its outputs."""
        command = [str(self.bin / self.name), "logs", "--tail", "60", name]
        done = subprocess.run(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout

    def remove_all(self) -> None:
        """At once: none is asked to stop first."""
        if left := self.containers():
            self.run("rm", "--force", "--volumes", *self._at_once, *left)

    def _script(self, text: str) -> None:
        file = self.bin / self.name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def _until_it_answers(self, log: Path) -> None:
        until = time.monotonic() + _WITHIN
        while time.monotonic() < until:
            asked = subprocess.run(
                [str(self.bin / self.name), "info"],
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if asked.returncode == 0:
                return
            time.sleep(0.1)
        said = log.read_text() if log.exists() else ""
        raise RuntimeError(f"{self.name} does not answer:\n{asked.stderr}\n{said[-3000:]}")

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_WITHIN)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        self._firewall.forget()
        shutil.rmtree(self.folder)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in {self.folder}>"


class Docker(Engine):
    """A dockerd that keeps all it has in a temporary folder."""

    name = "docker"

    def start(self) -> Self:
        self._firewall = Firewall(("DOCKER", "docker0"), link="docker0").look()
        socket, log = f"unix://{self.folder}/socket", self.folder / "log"
        daemon = Path(found("dockerd"))
        beside = Path("/usr/bin/docker")  # Debian's, that came with the daemon, before others
        client = str(beside) if beside.exists() else found("docker")
        self._script(f'export DOCKER_HOST={socket} DOCKER_BUILDKIT=0\nexec {client} "$@"')
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    *(str(daemon), "--host", socket, "--pidfile", f"{self.folder}/pid"),
                    *("--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"),
                ],
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._until_it_answers(log)
        return self

    def is_healthy(self, name: str) -> bool:
        state = self.inspect(name)["State"]
        assert state["Running"], f"{name} ended with {state['ExitCode']}: {self.logs(name)}"
        return bool(state["Health"]["Status"] == "healthy")

    @property
    def environment(self) -> Mapping[str, str]:
        return {**super().environment, "DOCKER_HOST": f"unix://{self.folder}/socket"}

    def stop(self) -> None:
        with suppress(AssertionError):  # the daemon's folder goes with it all the same
            self.remove_all()
        self._end()


class Podman(Engine):
    """Podman has no daemon. Its mounts are in a namespace that a process of ours holds open."""

    name = "podman"
    _at_once = ("--time", "0")

    def start(self) -> Self:
        self._firewall = Firewall(("NETAVARK", "netavark")).look()
        program, enter = found("podman"), found("nsenter")
        for name, text in (("containers", _CONTAINERS_CONF), ("storage", _STORAGE_CONF)):
            (self.folder / f"{name}.conf").write_text(text.format(folder=self.folder))
        (self.folder / "tmp").mkdir()
        hidden = f"umount {_SECOND} && " if _SECOND.is_dir() else ""
        self._process = subprocess.Popen(
            [found("unshare"), "--mount", "sh", "-c", f"{hidden}exec sleep infinity"],
            start_new_session=True,
        )
        self._script(
            f"export CONTAINERS_CONF={self.folder}/containers.conf"
            f" CONTAINERS_STORAGE_CONF={self.folder}/storage.conf\n"
            f'exec {enter} --target {self._process.pid} --mount --wdns="$PWD" {program} "$@"'
        )
        self._until_it_answers(self.folder / "log")
        return self

    def is_healthy(self, name: str) -> bool:
        """Asked here: podman leaves asking by itself to systemd, which may not be there."""
        state = self.inspect(name)["State"]
        assert state["Running"], f"{name} ended with {state['ExitCode']}: {self.logs(name)}"
        command = [str(self.bin / self.name), "healthcheck", "run", name]
        asked = subprocess.run(command, env=self.environment, capture_output=True, check=False)
        return asked.returncode == 0

    def stop(self) -> None:
        with suppress(AssertionError):
            self.run("pod", "rm", "--all", "--force")
            self.remove_all()
        with suppress(AssertionError):
            self.run("system", "reset", "--force")
        self._end()


@contextmanager
def clean(engine: Engine) -> Iterator[None]:
    """No container is left of what the block started."""
    try:
        yield
    finally:
        engine.remove_all()
