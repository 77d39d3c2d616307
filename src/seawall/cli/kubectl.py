"""A cluster by the `kubectl` that is installed, in the context it is set to."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seawall.cli.failure import Failure
from seawall.deploy.yaml_text import written
from seawall.errors import Refused, Unavailable

if TYPE_CHECKING:
    from seawall.deploy.naming import Object

# The API server answers each object within a second; a project has some hundred.
_WITHIN = 300  # seconds

# One look of many: what is late is looked at again.
_LOOK_WITHIN = 30  # seconds

# Where kubectl keeps what was applied.
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# What kubectl says where nobody answers, whatever was asked.
_AWAY = ("Unable to connect", "connection refused", "i/o timeout", "TLS handshake timeout", "EOF")

# A gateway's metrics are asked inside its pod, since network policies keep others out.
_ASK = (
    "import urllib.request as r;"
    "print(r.urlopen('http://127.0.0.1:{port}/metrics', timeout=5).read().decode())"
)


class KubectlCluster:
    """See `seawall.deploy.release.Cluster`."""

    def __init__(self, namespace: str, project: str, *, gateway: str, admin_port: int) -> None:
        program = shutil.which("kubectl")
        if program is None:
            raise Failure(
                "there is no kubectl here, and it is what talks to the cluster",
                fix="install kubectl, and set its context: kubectl config use-context NAME",
            )
        self._program = program
        self._namespace = namespace
        self._selector = f"app.kubernetes.io/part-of={project}"
        self._gateway = gateway
        self._ask = _ASK.format(port=admin_port)

    async def diff(self, objects: "Sequence[Object]") -> str:
        found = await self._run("get", "namespace", self._namespace, "--ignore-not-found")
        if not found.stdout.strip():  # nothing in it can be compared, and all of it is new
            return f"namespace {self._namespace} is new\n"
        done = await self._run("diff", "-f", "-", text=written(objects), fine=(0, 1))
        return done.stdout if done.returncode else ""

    async def before(self, objects: "Sequence[Object]") -> "Sequence[Object]":
        words = ("get", "-f", "-", "--ignore-not-found", "-o", "json")
        done = await self._run(*words, text=written(objects))
        if not done.stdout.strip():
            return []
        told = json.loads(done.stdout)
        found = told["items"] if told["kind"] == "List" else [told]
        kept = (each["metadata"].get("annotations", {}).get(_APPLIED) for each in found)
        return [json.loads(text) for text in kept if text]

    async def apply(self, objects: "Sequence[Object]") -> None:
        await self._run("apply", "-f", "-", text=written(objects))

    async def deployments(self) -> "Sequence[Object]":
        return await self._listed("deployments")

    async def pods(self) -> "Sequence[Object]":
        return await self._listed("pods")

    async def metrics(self, pod: str) -> str | None:
        words = ("exec", "-n", self._namespace, pod, "-c", self._gateway)
        try:
            done = await self._run(*words, "--", "python", "-c", self._ask, within=_LOOK_WITHIN)
        except (Unavailable, Refused):  # it starts or ends, or we may not: then nobody tells
            return None
        return done.stdout

    async def _listed(self, kind: str) -> "list[Object]":
        words = ("get", kind, "-n", self._namespace, "-l", self._selector, "-o", "json")
        done = await self._run(*words, within=_LOOK_WITHIN)
        items: list[Any] = json.loads(done.stdout)["items"]
        return items

    async def _run(
        self, *words: str, text: str = "", fine: Sequence[int] = (0,), within: float = _WITHIN
    ) -> "subprocess.CompletedProcess[str]":
        try:
            done = await asyncio.to_thread(self._ran, words, text, within)
        except subprocess.TimeoutExpired:
            message = f"kubectl {words[0]} did not end within {within:g} s"
            raise Unavailable(message) from None
        if done.returncode in fine:
            return done
        told = done.stderr.strip() or f"status {done.returncode}"
        error = Unavailable if any(sign in told for sign in _AWAY) else Refused
        raise error(f"kubectl {words[0]}: {told}")

    def _ran(
        self, words: Sequence[str], text: str, within: float
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self._program, *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
