"""One image for all processes of a project: which of them it runs is its command.

Dependencies are installed by the lock file, with hashes, in a first stage; what that needs (pip's
cache, a compiler if somebody adds one) is not in the image that runs. Wheels of the project's own
are as much to be trusted as the code beside them, and need no hash; what they need is in the lock.
"""

import json
from collections.abc import Iterator

from seawall.deploy.pods import USER
from seawall.deploy.workload import HOME, PORT, context_path, image_folder
from seawall.spec.project import Spec

HEADING = "# Made by `seawall deploy image`; change seawall.toml instead.\n"

# Asked inside the container; the gateway says by the variable where its probes are.
HEALTH = "SEAWALL_HEALTH_URL"
_ASK = (
    "import os, urllib.request as r;"
    f" r.urlopen(os.environ.get('{HEALTH}', 'http://127.0.0.1:{PORT}/readyz'), timeout=2)"
)

# Where packages come from, if the environment of `seawall deploy image --build` says it. They are
# the first stage's only: the image that runs and its history do not have them.
PASSED = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")

# What must not be in an image: data and keys of this machine, histories, caches, secrets.
IGNORED = (
    "**/.seawall",
    "**/.git",
    "**/.venv",
    "**/venv",
    "**/node_modules",
    "**/__pycache__",
    "**/*.pyc",
    "**/.*_cache",
    "**/.env",
    "**/*.db",
    "**/*.pem",
    "**/*.key",
)


def dockerfile(spec: Spec) -> str:
    """For `docker build` and `podman build`, with BuildKit or without."""
    settings = spec.deploy
    parts = [HEADING, *_build(spec), f"FROM {settings.base_image}"]
    if settings.packages:
        names = " ".join(settings.packages)
        parts.append(
            "RUN apt-get update -qq \\\n"
            f" && apt-get install -qq -y --no-install-recommends {names} \\\n"
            " && rm -rf /var/lib/apt/lists/*"
        )
    parts += [
        "COPY --from=build /venv /venv",
        f"COPY . {HOME}",
        'ENV PATH="/venv/bin:${PATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0'
        f" PORT={PORT}",
        f"WORKDIR {image_folder(spec, '.')}",
        f"USER {USER}:{USER}",
        f"EXPOSE {PORT}",
        "HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \\\n"
        f"    CMD {json.dumps(['python', '-c', _ASK])}",
        f"CMD {json.dumps(['seawall', '--help'])}",
    ]
    return "\n".join(parts) + "\n"


def _build(spec: Spec) -> Iterator[str]:
    """The first stage. `python3` is there in Python's images and in Debian's own."""
    settings = spec.deploy
    install = (
        "RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps \\\n    "
    )
    lock = [context_path(spec, settings.requirements), "/tmp/requirements.lock"]
    steps = [
        f"FROM {settings.base_image} AS build",
        "RUN python3 -m venv /venv",
        *(f'ARG {variable}=""' for variable in PASSED),  # pip takes an empty one as none
        f"COPY {json.dumps(lock)}",
        f"{install}--require-hashes -r /tmp/requirements.lock",
    ]
    if settings.wheels:
        steps += [
            f"COPY {json.dumps([context_path(spec, settings.wheels), '/tmp/wheels'])}",
            f"{install}--no-index /tmp/wheels/*.whl",
        ]
    # A package that the lock forgot is missed here, rather than by the first request. What runs
    # installs nothing any more.
    pip = "/venv/bin/python -m pip --disable-pip-version-check"
    steps.append(f"RUN {pip} check \\\n && {pip} uninstall -q -y pip\n")
    yield from steps


def dockerignore() -> str:
    return HEADING + "".join(f"{pattern}\n" for pattern in IGNORED)
