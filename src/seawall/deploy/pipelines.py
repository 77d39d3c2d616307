"""Pipelines that test a project and release it, for GitHub Actions and GitLab.

They hold no secret and no host: where images go, and the cluster, are variables and secrets of the
repository, named at the top of each file. Releases wait for each other, and are never cancelled
half-way.
"""

from collections.abc import Callable, Mapping

from seawall.deploy.naming import Object
from seawall.deploy.yaml_text import written
from seawall.spec.project import Spec

HEADING = "Made by `seawall deploy pipeline`; change seawall.toml instead."

# What a run may take, tests and a rollout with its observation together.
_MINUTES = 45

_INSTALL = (
    "python -m venv .venv",
    ".venv/bin/pip install --require-hashes -r {requirements}",
)
_CHECK = ".venv/bin/seawall deploy check"


def _install(spec: Spec) -> list[str]:
    return [line.format(requirements=spec.deploy.requirements) for line in _INSTALL]


def _release(image: str, profile: str | None) -> str:
    chosen = f" --profile {profile}" if profile else ""
    return f'.venv/bin/seawall release --image "{image}"{chosen}'


def github(spec: Spec, profile: str | None) -> str:
    """`.github/workflows/release.yml`: checks of every push, a release of the branch `main`."""
    prepared: list[Object] = [
        {"uses": "actions/checkout@v4"},
        {"uses": "actions/setup-python@v5", "with": {"python-version": "3.13"}},
        {"name": "Install", "run": "\n".join(_install(spec)) + "\n"},
    ]
    login = (
        'echo "$REGISTRY_PASSWORD" |'
        ' docker login --username "$REGISTRY_USER" --password-stdin "${IMAGE%%/*}"'
    )
    cluster = (
        "install -m 700 -d ~/.kube\n"
        'printf "%s" "$KUBECONFIG_TEXT" > ~/.kube/config\n'
        "chmod 600 ~/.kube/config\n"
    )
    release: list[Object] = [
        *prepared,
        {
            "name": "Log in where images go",
            "env": {
                "IMAGE": "${{ vars.IMAGE }}",
                "REGISTRY_USER": "${{ secrets.REGISTRY_USER }}",
                "REGISTRY_PASSWORD": "${{ secrets.REGISTRY_PASSWORD }}",
            },
            "run": login,
        },
        {
            "name": "Name the cluster",
            "env": {"KUBECONFIG_TEXT": "${{ secrets.KUBECONFIG }}"},
            "run": cluster,
        },
        {
            "name": "Release",
            "env": {"IMAGE": "${{ vars.IMAGE }}"},
            "run": _release("$IMAGE:$GITHUB_SHA", profile),
        },
    ]
    made: Object = {
        "name": "Release",
        "on": {"push": {"branches": ["main"]}, "pull_request": {}},
        "permissions": {"contents": "read"},
        "jobs": {
            "check": {
                "runs-on": "ubuntu-latest",
                "timeout-minutes": _MINUTES,
                "steps": [*prepared, {"name": "Does it fit?", "run": _CHECK}],
            },
            "release": {
                "needs": "check",
                "if": "github.event_name == 'push'",
                "runs-on": "ubuntu-latest",
                "timeout-minutes": _MINUTES,
                "environment": "production",
                "concurrency": {"group": "release", "cancel-in-progress": False},
                "steps": release,
            },
        },
    }
    needed = (
        "variables: IMAGE (without a tag); secrets: REGISTRY_USER, REGISTRY_PASSWORD, KUBECONFIG"
    )
    return written([made], heading=f"{HEADING}\n# {needed}")


def gitlab(spec: Spec, profile: str | None) -> str:
    """`.gitlab-ci.yml`: checks of every push, a release of the default branch."""
    login = (
        'echo "$CI_REGISTRY_PASSWORD" |'
        ' docker login --username "$CI_REGISTRY_USER" --password-stdin "$CI_REGISTRY"'
    )
    made: Object = {
        "stages": ["check", "release"],
        "default": {
            "image": spec.deploy.base_image,
            "timeout": f"{_MINUTES} minutes",
            "before_script": _install(spec),
        },
        "check": {"stage": "check", "script": [_CHECK]},
        "release": {
            "stage": "release",
            "services": ["docker:dind"],
            "variables": {"DOCKER_HOST": "tcp://docker:2376", "DOCKER_TLS_CERTDIR": "/certs"}
            | {"DOCKER_CERT_PATH": "/certs/client", "DOCKER_TLS_VERIFY": "1"},
            "environment": "production",
            "resource_group": "production",
            "interruptible": False,
            "rules": [{"if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"}],
            "script": [
                "apt-get update",
                "apt-get install --yes --no-install-recommends docker.io kubernetes-client",
                login,
                _release("$CI_REGISTRY_IMAGE:$CI_COMMIT_SHA", profile),
            ],
        },
    }
    needed = "a variable of type file: KUBECONFIG, with the cluster"
    return written([made], heading=f"{HEADING}\n# {needed}")


# Where the file belongs, and what makes it.
KINDS: Mapping[str, tuple[str, Callable[[Spec, str | None], str]]] = {
    "github": (".github/workflows/release.yml", github),
    "gitlab": (".gitlab-ci.yml", gitlab),
}
