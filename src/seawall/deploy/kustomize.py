"""A base of plain objects, and for each profile an overlay with only what is different.

    base/kustomization.yaml, base/*.yaml     the project without a profile
    overlays/PROFILE/kustomization.yaml      what that profile changes, adds and leaves out

Overlays are JSON patches (RFC 6902): base and patches together are, to the last key, what the
profile's objects would be; a test applies them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seawall.deploy.kubernetes import Files
from seawall.deploy.naming import Object
from seawall.deploy.yaml_text import written

HEADING = "Made by `seawall deploy kubernetes`; change seawall.toml instead."

_KUSTOMIZATION: Object = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
}

Key = tuple[str, str, str]


def tree(base: Files, profiles: Mapping[str, Files]) -> dict[str, str]:
    """Paths below the output folder, and their texts."""
    made = {"base/kustomization.yaml": _text([{**_KUSTOMIZATION, "resources": list(base)}])}
    for name, documents in base.items():
        made[f"base/{name}"] = _text(documents)
    for profile, files in sorted(profiles.items()):
        for name, text in _overlay(base, files):
            made[f"overlays/{profile}/{name}"] = text
    return made


def _text(documents: Sequence[Object]) -> str:
    return written(documents, heading=HEADING)


def key_of(made: Object) -> Key:
    metadata = made["metadata"]
    return made["kind"], metadata.get("namespace", ""), metadata["name"]


def _by_key(files: Files) -> dict[Key, Object]:
    return {key_of(each): each for documents in files.values() for each in documents}


def _overlay(base: Files, wanted: Files) -> Iterator[tuple[str, str]]:
    before, after = _by_key(base), _by_key(wanted)
    added = [made for key, made in after.items() if key not in before]
    patches: list[dict[str, Any]] = []
    for key, made in before.items():
        if key not in after:
            patches.append({"patch": _deletion(made)})
        elif operations := list(difference(made, after[key])):
            kind, namespace, name = key
            target = {"kind": kind, "name": name, **({"namespace": namespace} if namespace else {})}
            patches.append({"target": target, "patch": written_operations(operations)})
    kustomization: Object = {**_KUSTOMIZATION, "resources": ["../../base"]}
    if added:
        kustomization["resources"].append("added.yaml")
        yield "added.yaml", _text(added)
    if patches:
        kustomization["patches"] = patches
    yield "kustomization.yaml", _text([kustomization])


def _deletion(made: Object) -> str:
    metadata = {k: v for k, v in made["metadata"].items() if k in ("name", "namespace")}
    named = {"apiVersion": made["apiVersion"], "kind": made["kind"], "metadata": metadata}
    return written([{"$patch": "delete", **named}])


def written_operations(operations: Sequence[Mapping[str, Any]]) -> str:
    """A list at the top, which our YAML has only below a key."""
    text = written([{"patch": list(operations)}])
    return text.removeprefix("patch:\n")


def difference(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """The operations of RFC 6902 that make `after` of `before`."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _of_mappings(before, after, path)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from difference(old, new, f"{path}/{number}")
    else:
        yield {"op": "replace", "path": path, "value": after}


def _of_mappings(
    before: Mapping[str, Any], after: Mapping[str, Any], path: str
) -> Iterator[dict[str, Any]]:
    for key in before:
        if key not in after:
            yield {"op": "remove", "path": f"{path}/{_escaped(key)}"}
    for key, value in after.items():
        where = f"{path}/{_escaped(key)}"
        if key in before:
            yield from difference(before[key], value, where)
        else:
            yield {"op": "add", "path": where, "value": value}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
