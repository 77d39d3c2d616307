"""A stand-in for kubectl and its cluster: an executable that keeps what is applied in a folder.

Deployments of what is applied roll out at the next look; `scene` says what goes wrong: images that
cannot be pulled, and requests that fail once an image runs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

_SCRIPT = """#!{python}
import sys
sys.path[:0] = {path!r}
from tests.support.kubectl import Stand
sys.exit(Stand({folder!r}).run(sys.argv[1:]))
"""

APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

Body = dict[str, Any]


def installed(bin_folder: Path, state: Path) -> "Stand":
    """Make it, as `kubectl` in that folder; the cluster's state in the other."""
    bin_folder.mkdir(exist_ok=True)
    state.mkdir(exist_ok=True)
    program = bin_folder / "kubectl"
    root = str(Path(__file__).parents[2])
    program.write_text(_SCRIPT.format(python=sys.executable, path=[root], folder=str(state)))
    program.chmod(0o755)
    return Stand(str(state))


class Stand:
    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    # what a test says and sees

    def scene(self, **said: Any) -> None:
        """`unpullable`: images; `failing`: images whose gateways answer 500; `away`: nobody
        answers."""
        (self.folder / "scene").write_text(json.dumps(said))

    @property
    def calls(self) -> list[str]:
        """The verbs that were asked, in order, without looks."""
        path = self.folder / "calls"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def object(self, kind: str, name: str) -> Body | None:
        return self._state()["objects"].get(f"{kind}/{name}")

    # what it does

    def run(self, words: list[str]) -> int:
        """The status; what is said goes to the outputs."""
        scene = self._read("scene", {})
        if scene.get("away"):
            sys.stderr.write("Unable to connect to the server: dial tcp: i/o timeout\n")
            return 1
        match words:
            case ["get", "namespace", *_]:
                said = "namespace/shop\n" if self.object("Namespace", "shop") else ""
            case ["get", "-f", "-", *_]:
                said = self._get()
            case ["diff", "-f", "-"]:
                self._note("diff")
                said = "".join(f"+ {key}\n" for key in self._changed(_documents()))
            case ["apply", "-f", "-"]:
                self._note("apply")
                said = self._apply(_documents())
            case ["get", "deployments" | "pods" as kind, *_]:
                said = self._list(kind, scene)
            case ["exec", *_]:
                said = self._metrics(scene)
            case _:
                sys.stderr.write(f"unknown: {words}\n")
                return 1
        sys.stdout.write(said)
        return 1 if words[0] == "diff" and said else 0

    def _get(self) -> str:
        objects = self._state()["objects"]
        found = [objects[key] for key in map(_key, _documents()) if key in objects]
        items = [
            {**each, "metadata": {**each["metadata"], "annotations": _annotated(each)}}
            for each in found
        ]
        return json.dumps({"kind": "List", "items": items}) if items else ""

    def _changed(self, documents: list[Body]) -> list[str]:
        objects = self._state()["objects"]
        return [_key(each) for each in documents if objects.get(_key(each)) != each]

    def _apply(self, documents: list[Body]) -> str:
        state = self._state()
        for each in documents:
            key = _key(each)
            if each["kind"] == "Deployment" and state["objects"].get(key) != each:
                state["generation"][key] = state["generation"].get(key, 0) + 1
            state["objects"][key] = each
        (self.folder / "state").write_text(json.dumps(state))
        return "".join(f"{_key(each).lower()} configured\n" for each in documents)

    def _list(self, kind: str, scene: Body) -> str:
        state = self._state()
        deployments = [o for key, o in state["objects"].items() if key.startswith("Deployment/")]
        listed = []
        for each in deployments:
            generation = state["generation"][_key(each)]
            image = each["spec"]["template"]["spec"]["containers"][0]["image"]
            broken = image in scene.get("unpullable", [])
            make = _pod if kind == "pods" else _deployment
            listed.append(make(each, generation, broken))
        return json.dumps({"kind": "List", "items": listed})

    def _metrics(self, scene: Body) -> str:
        """Each look finds a hundred requests more."""
        looks = self._read("looks", 0) + 1
        (self.folder / "looks").write_text(json.dumps(looks))
        gateway = self.object("Deployment", "gateway")
        assert gateway is not None
        image = gateway["spec"]["template"]["spec"]["containers"][0]["image"]
        failed = self._read("failed", 0) + (50 if image in scene.get("failing", []) else 0)
        (self.folder / "failed").write_text(json.dumps(failed))
        name = "http_server_request_duration_seconds_count"
        fine = f'{name}{{http_response_status_code="200",service="web"}} {100 * looks - failed}'
        return f'{fine}\n{name}{{http_response_status_code="500",service="web"}} {failed}\n'

    def _state(self) -> Body:
        found: Body = self._read("state", {"objects": {}, "generation": {}})
        return found

    def _read(self, name: str, default: Any) -> Any:
        path = self.folder / name
        return json.loads(path.read_text()) if path.exists() else default

    def _note(self, verb: str) -> None:
        with (self.folder / "calls").open("a") as file:
            file.write(f"{verb}\n")


def _documents() -> list[Body]:
    return list(yaml.safe_load_all(sys.stdin.read()))


def _key(made: Body) -> str:
    return f"{made['kind']}/{made['metadata']['name']}"


def _annotated(made: Body) -> Body:
    return {**made["metadata"].get("annotations", {}), APPLIED: json.dumps(made)}


def _deployment(made: Body, generation: int, broken: bool) -> Body:
    wanted = made["spec"].get("replicas", 1)
    status = {
        "observedGeneration": generation,
        "replicas": wanted + broken,
        "updatedReplicas": 1 if broken else wanted,
        "availableReplicas": wanted,
    }
    spec = {"replicas": wanted}
    metadata = {"name": made["metadata"]["name"], "generation": generation}
    return {"kind": "Deployment", "metadata": metadata, "spec": spec, "status": status}


def _pod(made: Body, generation: int, broken: bool) -> Body:
    name = made["metadata"]["name"]
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    state = {"waiting": waiting} if broken else {"running": {}}
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{generation}-abcde",
            "labels": {"app.kubernetes.io/name": name},
        },
        "status": {
            "phase": "Pending" if broken else "Running",
            "containerStatuses": [{"name": name, "restartCount": 0, "state": state}],
        },
    }
