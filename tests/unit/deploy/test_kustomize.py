import copy
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from seawall.deploy.kustomize import difference, key_of, tree
from seawall.deploy.naming import Object

LEAVES = st.none() | st.integers(0, 3) | st.text("ab/~", max_size=3)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab/~", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=10,
)


def patched(value: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902, as far as we use it."""
    whole = {"": copy.deepcopy(value)}
    for operation in operations:
        parts = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")]
        at: Any = whole
        for part in parts[:-1]:
            at = at[int(part)] if isinstance(at, list) else at[part]
        last = int(parts[-1]) if isinstance(at, list) else parts[-1]
        if operation["op"] == "remove":
            del at[last]
        else:
            assert (operation["op"] == "replace") == (isinstance(at, list) or last in at)
            at[last] = operation["value"]
    return whole[""]


@given(TREES, TREES)
def test_a_patch_makes_one_of_the_other(before: Any, after: Any) -> None:
    assert patched(before, list(difference(before, after))) == after


def named(kind: str, name: str, **more: object) -> Object:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}


def test_base_and_overlay_are_the_profile() -> None:
    base = {"a.yaml": [named("A", "a", spec={"replicas": 1, "keep": [1]}), named("B", "b")]}
    wanted = {"a.yaml": [named("A", "a", spec={"keep": [2]}), named("C", "c")]}
    files = tree(base, {"prod": wanted})
    overlay = yaml.safe_load(files["overlays/prod/kustomization.yaml"])
    assert overlay["resources"] == ["../../base", "added.yaml"]
    objects = {key_of(o): o for o in yaml.safe_load_all(files["base/a.yaml"])}
    for patch in overlay["patches"]:
        said = yaml.safe_load(patch["patch"])
        if isinstance(said, list):
            target = patch["target"]
            key = (target["kind"], target["namespace"], target["name"])
            objects[key] = patched(objects[key], said)
        else:
            assert said["$patch"] == "delete"
            del objects[key_of(said)]
    added = list(yaml.safe_load_all(files["overlays/prod/added.yaml"]))
    assert [*objects.values(), *added] == wanted["a.yaml"]
