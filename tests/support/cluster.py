"""An API server that knows EndpointSlices: lists and watches over real HTTP, as Kubernetes does.

Every change has a number, the resource version. A watch begins after one and gets each later change
as a line of JSON; where that is forgotten it is told so (410), and has to list again.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from seawall.runtime.label_selector import selector
from tests.support.servers import free_port

Body = dict[str, Any]

_PATH = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
_KIND = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}


def endpoint(pod: str, address: str = "10.0.0.1", **more: Any) -> Body:
    """Of a pod that is ready; `ready`, `serving`, `terminating`, `uid` and `zone` say otherwise."""
    conditions = {k: more[k] for k in ("ready", "serving", "terminating") if k in more}
    made: Body = {
        "addresses": [address],
        "conditions": conditions or {"ready": True, "serving": True, "terminating": False},
        "targetRef": {"kind": "Pod", "name": pod, "uid": more.get("uid", f"uid-of-{pod}")},
    }
    if "zone" in more:
        made["zone"] = more["zone"]
    return made


def slice_of(
    service: str,
    *endpoints: Body,
    name: str = "",
    version: str = "1.4.0",
    project: str = "shop",
    family: str = "IPv4",
    ports: list[Body] | None = None,
) -> Body:
    labels = {
        "kubernetes.io/service-name": service,
        "app.kubernetes.io/version": version,
        "app.kubernetes.io/part-of": project,
    }
    return {
        **_KIND,
        "metadata": {"name": name or f"{service}-abcde", "labels": labels},
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}] if ports is None else ports,
    }


class ApiServer:
    """One namespace of a cluster. `refusing` is a status that every request gets instead."""

    def __init__(self, namespace: str = "shop") -> None:
        self.namespace = namespace
        self.port = free_port()
        self.refusing = 0
        self.lists = self.watches = 0
        self.tokens: set[str] = set()
        self._version = 100
        self._oldest = 0  # what happened up to here is forgotten
        self._objects: dict[str, Body] = {}
        self._events: list[tuple[int, Body]] = []
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def stop(self) -> None:
        """Refuse and cut every connection; what it knows stays."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        for writer in tuple(self._open):
            writer.transport.abort()

    # what happens in the cluster

    def put(self, made: Body) -> None:
        kind = "MODIFIED" if made["metadata"]["name"] in self._objects else "ADDED"
        self._note(kind, made)
        self._objects[made["metadata"]["name"]] = made

    def delete(self, name: str) -> None:
        self._note("DELETED", self._objects.pop(name))

    def bookmark(self) -> None:
        self._note("BOOKMARK", {**_KIND, "metadata": {}, "addressType": "", "endpoints": []})

    def forget(self) -> None:
        """No watch can begin before now any more; those that are open are told."""
        self._version += 1
        self._oldest = self._version
        self._events.clear()
        self._wake()

    def _note(self, kind: str, made: Body) -> None:
        self._version += 1
        made["metadata"]["resourceVersion"] = str(self._version)
        event = json.loads(json.dumps({"type": kind, "object": made}))
        self._events.append((self._version, event))
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            await self._answer(head, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> None:
        target = urlsplit(head.split()[1])
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        for line in head.splitlines():
            if line.lower().startswith("authorization: "):
                self.tokens.add(line.partition(": ")[2])
        if self.refusing:
            _whole(writer, self.refusing, _status(self.refusing))
        elif unquote(target.path) != _PATH.format(self.namespace):
            _whole(writer, 404, _status(404))
        elif query.get("watch") == "true":
            self.watches += 1
            await self._watch(query, writer)
        else:
            self.lists += 1
            _whole(writer, 200, self._listed(query))

    def _listed(self, query: Mapping[str, str]) -> Body:
        holds = selector(query.get("labelSelector", ""))
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSliceList",
            "metadata": {"resourceVersion": str(self._version)},
            "items": [o for o in self._objects.values() if holds(o["metadata"]["labels"])],
        }

    async def _watch(self, query: Mapping[str, str], writer: asyncio.StreamWriter) -> None:
        holds = selector(query.get("labelSelector", ""))
        at = int(query["resourceVersion"])
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        while not writer.is_closing():
            changed = self._changed
            if at < self._oldest:
                _line(writer, {"type": "ERROR", "object": _status(410)})
                return
            for version, event in [each for each in self._events if each[0] > at]:
                at = version
                labels = event["object"]["metadata"].get("labels")
                if labels is None or holds(labels):
                    _line(writer, event)
            await writer.drain()
            await changed.wait()


def _status(code: int) -> Body:
    reasons = {403: "endpointslices is forbidden", 410: "too old resource version"}
    message = reasons.get(code, f"status {code}")
    return {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}


def _whole(writer: asyncio.StreamWriter, status: int, body: Body) -> None:
    content = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
    )
    writer.write(head.encode() + content)


def _line(writer: asyncio.StreamWriter, body: Body) -> None:
    content = json.dumps(body).encode() + b"\n"
    writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
