"""Whether objects are what the API server of a version would take: by its own schemas, strictly.

The schemas come with the package `kubernetes-validate`. Reading them takes most of the time, so
each is read once.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from seawall.deploy.naming import Object
from seawall.deploy.target import KubeVersion
from seawall.errors import Misconfigured

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

_PACKAGE = "kubernetes_validate"

# The oldest version whose schemas are in the package.
SCHEMAS_FROM = KubeVersion(1, 25)

# Kinds of objects that a project has, in all versions that are asked about in one run.
_SCHEMAS = 512

# What Kubernetes itself has; of groups with other names only the extension knows the schema.
_OWN = re.compile(r"v1|(apps|batch|policy|autoscaling|[a-z.]+\.k8s\.io)/v\w+")
_EXTENSIONS = frozenset({"gateway.networking.k8s.io"})


@dataclass(frozen=True, slots=True)
class Invalid:
    """Where an object is wrong, and what the schema says about it."""

    kind: str
    name: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.path}: {self.reason}"


def is_custom(made: Mapping[str, Any]) -> bool:
    """Whether its kind is an extension's, of which Kubernetes has no schema."""
    version = str(made["apiVersion"])
    return not _OWN.fullmatch(version) or version.partition("/")[0] in _EXTENSIONS


def is_installed() -> bool:
    """Whether the schemas are here."""
    return find_spec(_PACKAGE) is not None


def invalid(objects: Iterable[Object], version: KubeVersion) -> list[Invalid]:
    """What is wrong with those of Kubernetes' own kinds. Raises `Misconfigured` where the schemas
    are not installed, or there are none for that version."""
    if not is_installed():
        raise Misconfigured(
            "the schemas of Kubernetes are not installed", fix="pip install 'seawall[deploy]'"
        )
    if version < SCHEMAS_FROM:
        raise Misconfigured(
            f"there are no schemas for Kubernetes {version}",
            fix=f"--kube-version {SCHEMAS_FROM} or newer",
        )
    found = []
    for made in objects:
        if not is_custom(made):
            found += _faults(made, version)
    return found


def _faults(made: Object, version: KubeVersion) -> list[Invalid]:
    kind, name = made["kind"], made["metadata"]["name"]
    validator = _validator(kind, made["apiVersion"], version)
    if validator is None:
        return [Invalid(kind, name, "apiVersion", f"{version} has no {made['apiVersion']}")]
    return [
        Invalid(kind, name, "/".join(str(part) for part in error.absolute_path), error.message)
        for error in sorted(validator.iter_errors(made), key=lambda error: error.json_path)
    ]


@lru_cache(maxsize=_SCHEMAS)
def _validator(kind: str, api: str, version: KubeVersion) -> "Draft202012Validator | None":
    from jsonschema import Draft202012Validator

    group, _, number = api.rpartition("/")
    stem = "-".join(filter(None, (kind.lower(), group.partition(".")[0], number)))
    schema = _read(f"{stem}.json", version)
    if schema is None:
        return None
    return Draft202012Validator(schema, registry=_definitions(version))


@lru_cache(maxsize=_SCHEMAS)
def _definitions(version: KubeVersion) -> Any:
    from referencing import Registry, Resource

    text = _read("_definitions.json", version)
    assert text is not None
    resource: Any = Resource.from_contents(text)
    return resource @ Registry()


def _read(name: str, version: KubeVersion) -> Any:
    folder = files(_PACKAGE) / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
