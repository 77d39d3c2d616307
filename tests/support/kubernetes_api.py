"""As much of a Kubernetes API server as kubectl needs to compare, apply and list: over real HTTP,
with discovery, and objects in memory. Deployments have rolled out as soon as they are applied.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Body = dict[str, Any]

# Group and version: plural names, kinds, and whether they are in a namespace.
RESOURCES: dict[str, list[tuple[str, str, bool]]] = {
    "v1": [
        ("namespaces", "Namespace", False),
        ("configmaps", "ConfigMap", True),
        ("serviceaccounts", "ServiceAccount", True),
        ("services", "Service", True),
        ("pods", "Pod", True),
    ],
    "apps/v1": [("deployments", "Deployment", True)],
    "networking.k8s.io/v1": [
        ("networkpolicies", "NetworkPolicy", True),
        ("ingresses", "Ingress", True),
    ],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget", True)],
}


class KubernetesApi:
    """Listens while its block is open. `objects` are by their paths; `unpullable` are images that
    there are not."""

    def __init__(self) -> None:
        self.objects: dict[str, Body] = {}
        self.unpullable: set[str] = set()
        self.lock = threading.Lock()
        self.version = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def kubeconfig(self, file: Path) -> Path:
        file.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "clusters": [{"name": "c", "cluster": {"server": self.url}}],
                    "users": [{"name": "u", "user": {"token": "secret"}}],
                    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                }
            )
        )
        return file

    def named(self, kind: str, name: str) -> Body:
        found = [o for o in self.objects.values() if o["kind"] == kind]
        return next(o for o in found if o["metadata"]["name"] == name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Give back the port."""
        self._server.server_close()

    # answers

    def get(self, path: str, query: dict[str, list[str]]) -> tuple[int, Body]:
        known = _discovered(path)
        if known is not None:
            return 200, known
        with self.lock:
            if path in self.objects:
                return 200, self.objects[path]
            plural = path.rpartition("/")[2]
            kind = {p: k for each in RESOURCES.values() for p, k, _ in each}.get(plural)
            if kind is None:
                return 404, _missing(path)
            selected = query.get("labelSelector", [""])[0].split(",")
            wanted = dict(part.split("=") for part in selected if part)
            items = [
                o
                for at, o in self.objects.items()
                if at.rpartition("/")[0] == path
                and wanted.items() <= o["metadata"].get("labels", {}).items()
            ]
            return 200, {"kind": f"{kind}List", "apiVersion": "v1", "items": items}

    def write(self, path: str, sent: Body, *, dry: bool) -> tuple[int, Body]:
        """A new object, or a patch of one."""
        with self.lock:
            sent = _merged(self.objects.get(path, {}), sent)
            before = self.objects.get(path, {}).get("metadata", {})
            same = _bare(self.objects.get(path, {})) == _bare(sent)
            generation = before.get("generation", 0) + (not same)
            version = str(self.version + 1)
            made = json.loads(json.dumps(sent))
            made["metadata"] |= {
                "uid": f"uid-of-{path}",
                "generation": generation,
                "resourceVersion": before.get("resourceVersion", version) if same else version,
                "creationTimestamp": "2026-01-01T00:00:00Z",
            }
            if made["kind"] == "Deployment":
                replicas = made["spec"].setdefault("replicas", 1)
                made["status"] = {"observedGeneration": generation} | dict.fromkeys(
                    ("replicas", "updatedReplicas", "availableReplicas"), replicas
                )
            if not dry:
                self.version += 1
                self.objects[path] = made
                if made["kind"] == "Deployment":
                    self._start_pod(made)
            return 200, made

    def _start_pod(self, made: Body) -> None:
        """One stands for all; who cannot be pulled keeps the Deployment from rolling out."""
        metadata = made["metadata"]
        name = f"{metadata['name']}-{metadata['generation']}"
        image = made["spec"]["template"]["spec"]["containers"][0]["image"]
        waiting = {"reason": "ImagePullBackOff", "message": f"there is no {image}"}
        state = {"waiting": waiting} if image in self.unpullable else {"running": {}}
        if image in self.unpullable:
            made["status"]["updatedReplicas"] = 0
        labels = made["spec"]["template"]["metadata"]["labels"]
        self.objects[f"/api/v1/namespaces/{metadata['namespace']}/pods/{name}"] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": metadata["namespace"], "labels": labels},
            "status": {
                "phase": "Pending" if image in self.unpullable else "Running",
                "containerStatuses": [{"name": "it", "restartCount": 0, "state": state}],
            },
        }


def _merged(before: Any, patch: Any) -> Any:
    """A strategic merge, as far as our objects need it: lists of things with names by these."""
    if isinstance(patch, dict) and isinstance(before, dict):
        merged = dict(before)
        for key, value in patch.items():
            if value is None:
                merged.pop(key, None)
            elif not key.startswith("$"):
                merged[key] = _merged(before.get(key), value)
        return merged
    if isinstance(patch, list) and isinstance(before, list):
        named = {each["name"]: each for each in before if isinstance(each, dict) and "name" in each}
        if named:
            for each in patch:
                named[each["name"]] = _merged(named.get(each["name"], {}), each)
            return list(named.values())
    return patch


def _openapi(path: str) -> Body:
    """Only that the server checks fields by itself, so that kubectl need not."""
    if path == "/openapi/v3":
        places = {f"{'apis/' if '/' in each else 'api/'}{each}" for each in RESOURCES}
        return {"paths": {at: {"serverRelativeURL": f"/openapi/v3/{at}"} for at in places}}
    group_version = path.removeprefix("/openapi/v3/").removeprefix("apis/").removeprefix("api/")
    group, _, version = group_version.rpartition("/")
    checked = [{"name": "fieldValidation", "in": "query"}]
    paths = {
        f"/{plural}/{{name}}": {
            "patch": {
                "parameters": checked,
                "x-kubernetes-group-version-kind": {
                    "group": group,
                    "version": version,
                    "kind": kind,
                },
            }
        }
        for plural, kind, _ in RESOURCES[group_version]
    }
    return {"openapi": "3.0.0", "info": {"title": "it", "version": "1"}, "paths": paths}


def _bare(made: Body) -> Any:
    metadata = made.get("metadata", {})
    kept = {k: metadata.get(k) for k in ("labels", "annotations")}
    return {k: v for k, v in made.items() if k not in ("metadata", "status")} | kept


def _discovered(path: str) -> Body | None:
    """What the server tells of itself; None where an object is meant."""
    if path.startswith("/openapi/v3"):
        return _openapi(path)
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups()}
    group_version = path.removeprefix("/apis/").removeprefix("/api/")
    return _resources(group_version) if group_version in RESOURCES else None


def _groups() -> list[Body]:
    found = []
    for group_version in RESOURCES:
        group, _, version = group_version.rpartition("/")
        if group:
            each = {"groupVersion": group_version, "version": version}
            found.append({"name": group, "versions": [each], "preferredVersion": each})
    return found


def _resources(group_version: str) -> Body:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": [
            {"name": plural, "singularName": "", "namespaced": inside, "kind": kind, "verbs": verbs}
            for plural, kind, inside in RESOURCES[group_version]
        ],
    }


def _missing(path: str) -> Body:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "NotFound",
        "message": f"{path} not found",
        "code": 404,
    }


def _handler(api: KubernetesApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._answer(*api.get(parts.path, parse_qs(parts.query)))

        def do_POST(self) -> None:
            self._write(is_new=True)

        def do_PATCH(self) -> None:
            self._write(is_new=False)

        def _write(self, *, is_new: bool) -> None:
            parts = urlsplit(self.path)
            sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
            path = f"{parts.path}/{sent['metadata']['name']}" if is_new else parts.path
            dry = "dryRun" in parse_qs(parts.query)
            self._answer(*api.write(path, sent, dry=dry))

        def _answer(self, status: int, body: Body) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Handler
