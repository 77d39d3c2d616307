"""Building the image, by the docker or podman that works here."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from seawall.cli.deploy_files import is_ours
from seawall.cli.failure import REFUSED, Failure
from seawall.cli.screen import print_json

PROGRAMS = ("docker", "podman")

_STDERR = 2  # the descriptor: data of ours alone is on standard output


def own_or_absent(folder: str, tree: Mapping[str, str]) -> None:
    """Refuse to write over files that a person wrote."""
    for name in tree:
        path = Path(folder, name)
        if path.exists() and not is_ours(path.read_text(encoding="utf-8", errors="replace")):
            raise Failure(
                f"{path} was not made by seawall deploy, and stays as it is",
                fix="build with it yourself, or move it away",
                status=REFUSED,
            )


def build(image: str, folder: str, *, builder: str | None, as_json: bool) -> int:
    """What the builder says goes to standard error as it comes. `builder`: that one, no other."""
    name = _working((builder,) if builder else PROGRAMS)
    _run(name, "build", *_options(name), "--tag", image, folder)
    if as_json:
        print_json({"schema": "seawall.deploy-image/1", "image": image, "builder": name})
    else:
        print(f"{image} is built", file=sys.stderr)
    return 0


def push(image: str) -> None:
    """To the registry that its name says."""
    name = _working(PROGRAMS)
    hint = f"{name} login, or --no-push where the cluster has the image by other means"
    _run(name, "push", image, fix=hint)


def _run(*command: str, fix: str | None = None) -> None:
    print(" ".join(command), file=sys.stderr)
    done = subprocess.run(command, stdout=_STDERR, check=False)
    if done.returncode:
        what = f"{command[0]} {command[1]} failed with status {done.returncode}; see above"
        raise Failure(what, fix=fix)


def _options(name: str) -> list[str]:
    """Podman's own format of an image has no health check. Of what is passed only the name is
    said: the value may have a password in it."""
    from seawall.deploy.image import PASSED

    passed = [variable for variable in PASSED if os.environ.get(variable)]
    arguments = [word for variable in passed for word in ("--build-arg", variable)]
    return ["--format", "docker", *arguments] if name == "podman" else arguments


def _working(names: Sequence[str]) -> str:
    """The first that is here and can work: a docker without its daemon cannot."""
    silent = {}
    for name in filter(shutil.which, names):
        asked = subprocess.run([name, "info"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return name
        silent[name] = (asked.stderr.strip() or f"status {asked.returncode}").splitlines()[-1]
    if silent:
        raise Failure(
            f"{' and '.join(silent)} cannot build here",
            why="; ".join(f"{name} info: {said}" for name, said in silent.items()),
            fix="start docker's daemon (systemctl start docker), or apt install podman",
        )
    raise Failure(
        f"there is {'neither docker nor podman' if len(names) > 1 else f'no {names[0]}'} here,"
        " and one of them builds the image",
        fix="apt install podman, or seawall deploy image --out DIR and build it elsewhere",
    )
