"""What the admin API offers: every power that the command line and a dashboard have."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from difflib import get_close_matches
from typing import Any, Protocol

from seawall.errors import Misconfigured
from seawall.runtime.admin import Answer, Answerer, Question
from seawall.runtime.admin_rows import canary_row, instance_row, reload_row, service_row
from seawall.runtime.asking import At
from seawall.runtime.autoscaler import Autoscaler
from seawall.runtime.canary import Canaries
from seawall.runtime.cost import Meter
from seawall.runtime.fleet import Fleet
from seawall.runtime.fleets import Fleets, UnknownName
from seawall.runtime.gateway_fleet import reload_all, revisions
from seawall.runtime.identities import SUPERVISOR
from seawall.runtime.layout import Layout
from seawall.runtime.logs import LogStore, log_row, read_logs
from seawall.runtime.narration import NARRATOR
from seawall.runtime.operating import ask_all
from seawall.runtime.registration import Registrar
from seawall.runtime.replica import Kind, Replica
from seawall.runtime.restart import State
from seawall.runtime.settling import Settling
from seawall.runtime.stages import Stage
from seawall.spec.project import Spec
from seawall.version import __version__

_MOST_LINES = 100_000  # of a log in one answer


class Project(Protocol):
    """What the admin API needs to know of whoever runs the project."""

    spec: Spec
    layout: Layout
    stage: Stage
    operator_token: str

    def stop(self, why: str) -> None: ...

    def gateway_url(self, fleets: Fleets) -> str | None: ...

    async def reroute(self) -> None: ...


class AdminApi:
    """Answers questions about the fleets and changes them."""

    def __init__(
        self,
        project: Project,
        fleets: Fleets,
        logs: LogStore,
        registrar: Registrar,
        autoscaler: Autoscaler,
        canaries: Canaries,
        settling: Callable[[str], Settling],
    ) -> None:
        self._project = project
        self._fleets = fleets
        self._logs = logs
        self._registrar = registrar
        self._autoscaler = autoscaler
        self._canaries = canaries
        self._settling = settling
        self._meter = Meter()

    def routes(self) -> Mapping[tuple[str, str], Answerer]:
        return {
            ("GET", "/v1/status"): self.status,
            ("GET", "/v1/ps"): self.ps,
            ("GET", "/v1/logs"): self.logs,
            ("GET", "/v1/address"): self.address,
            ("POST", "/v1/scale"): self.scale,
            **self._autoscaler.routes(),
            ("POST", "/v1/restart"): self.restart,
            ("POST", "/v1/reload"): self.reload,
            ("POST", "/v1/canary"): self.canary,
            ("POST", "/v1/operate"): self.operate,
            ("POST", "/v1/gateway/reload"): self.reload_gateways,
            ("POST", "/v1/down"): self.down,
        }

    async def status(self, question: Question) -> Answer:
        del question
        return self._status()

    def _status(self) -> Mapping[str, Any]:
        return {
            "schema": "seawall.status/1",
            "project": self._project.spec.project.name,
            "root": str(self._project.layout.root),
            "seawall": __version__,
            "stage": self._project.stage,
            "url": self._project.gateway_url(self._fleets),
            "unready": [
                {"service": name, "reason": reason}
                for name, reason in self._fleets.unready(self._project.spec)
            ],
            "trouble": self._logs.trouble or None,
        }

    async def ps(self, question: Question) -> Answer:
        del question
        registered = {i.instance_id: i for i in await self._registrar.read()}
        replicas = [snapshot for fleet in self._fleets.all() for snapshot in fleet.snapshot()]
        pids = [replica.pid for replica in replicas if replica.pid is not None]
        costs = await asyncio.to_thread(self._meter.look, pids)
        return {
            **self._status(),
            "schema": "seawall.ps/1",
            "mtls": self._project.spec.identity.mtls,
            "services": [
                service_row(
                    *(fleet.name, fleet.recipe.kind, fleet.desired, fleet.snapshot()),
                    self._autoscaler.seen(fleet.name),
                    standbys=len(fleet.recipe.standbys or ()),
                )
                for fleet in self._fleets.all()
            ],
            "instances": [instance_row(replica, costs, registered) for replica in replicas],
        }

    async def logs(self, question: Question) -> Answer:
        """The stored lines of the services or instances named, then new ones if `follow`."""
        names = question.query.get("name", [])
        instances = {instance for name in names for instance in self._instances(name)}
        tail = min(_MOST_LINES, _number(question.one("tail", "100"), "tail"))
        return self._lines(instances, tail, follow=question.one("follow") == "1")

    async def _lines(
        self, instances: set[str], tail: int, *, follow: bool
    ) -> AsyncIterator[Mapping[str, Any]]:
        def wanted(instance: str) -> bool:
            return not instances or instance in instances

        async with self._logs.following(instances) as fresh:
            folder = self._project.layout.logs
            stored = await asyncio.to_thread(read_logs, folder, wanted, tail)
            for line in stored:
                yield log_row(line)
            newest = stored[-1].at if stored else 0.0
            while follow:
                line = await fresh.get()
                if line.at > newest:  # else it was stored meanwhile
                    yield log_row(line)

    async def address(self, question: Question) -> Answer:
        """Where to ask a service: a ready instance of it, the least busy."""
        name = question.one("name")
        fleet, replica = self._find(name)
        candidates = [replica] if replica else list(fleet.replicas)
        ready = [r for r in candidates if r.state is State.READY and r.place.address]
        if not ready:
            reason = next((r.snapshot().reason or r.state for r in candidates), "no replicas")
            raise Misconfigured(f"{name} has no ready instance ({reason})", fix="seawall ps")
        busy = await self._busy()
        chosen = min(ready, key=lambda r: busy.get(r.place.instance_id, 0))
        place, certificates = chosen.place, self._project.layout.certificates
        return {
            "schema": "seawall.address/1",
            "instance": place.instance_id,
            "service": place.service,
            "host": place.address.host if place.address else None,
            "port": place.address.port if place.address else None,
            "tls": None if place.tls is None else str(certificates / SUPERVISOR),
        }

    async def operate(self, question: Question) -> Answer:
        """Put an operator's question to the service named, else to all Python services."""
        named = str(question.body.get("service") or "")
        operation = str(question.body.get("operation", ""))
        if not operation.isidentifier():
            raise Misconfigured(f"{operation!r} is no operation")
        fleets = [self._find(named)[0]] if named else self._services()
        places = {fleet.name: at for fleet in fleets if (at := _at(fleet))}
        if named and not places:
            raise Misconfigured(f"{named} has no ready instance", fix="seawall ps")
        asked = question.body.get("question")
        rows = await ask_all(
            places,
            operation,
            asked if isinstance(asked, dict) else {},
            self._project.operator_token,
        )
        if named and not rows:
            raise Misconfigured(f"{named} has no {operation}")
        return {"schema": "seawall.operate/1", "operation": operation, "services": rows}

    def _services(self) -> list[Fleet]:
        return [fleet for fleet in self._fleets.all() if fleet.recipe.kind is Kind.SERVICE]

    async def scale(self, question: Question) -> Answer:
        name = str(question.body.get("service", ""))
        fleet, replica = self._find(name)
        if replica is not None:
            raise Misconfigured(f"{name} is one instance", fix=f"scale {fleet.name}")
        if fleet.recipe.kind is Kind.SERVER:
            raise Misconfigured(f"{name} is one server and cannot be scaled")
        was, wanted = fleet.desired, str(question.body.get("replicas", ""))
        answer = {"schema": "seawall.scale/1", "service": name, "was": was, "mode": "by hand"}
        if wanted == "auto":
            self._autoscaler.resume(name)
            return {**answer, "replicas": was, "mode": "auto"}
        count = _wanted(wanted, was)
        self._autoscaler.by_hand(name)
        # What comes need not wait for the registry; who goes is told by who is busy.
        await fleet.scale(count, await self._busy() if count < was else {})
        await fleet.left()
        return {**answer, "replicas": count}

    async def restart(self, question: Question) -> Answer:
        name = str(question.body.get("name", ""))
        fleet, replica = self._find(name)
        failed = await fleet.restart(replica.place.instance_id if replica else None)
        return {"schema": "seawall.restart/1", "name": name, "failed": failed}

    async def reload(self, question: Question) -> Answer:
        """Replace the processes of a service without missing one; each as it is done."""
        name = str(question.body.get("service", ""))
        fleet, replica = self._find(name)
        if replica is not None:
            raise Misconfigured(f"{name} is one instance", fix=f"reload {fleet.name}")
        settling = self._settling(name)
        await settling.begin()
        steps = fleet.reload(settling)
        # Whatever stands against it is an answer of its own, before anything was touched.
        first = await anext(steps, None)

        async def told() -> AsyncIterator[Mapping[str, Any]]:
            if first is not None:
                yield reload_row(first)
            async for step in steps:
                yield reload_row(step)

        return told()

    async def canary(self, question: Question) -> Answer:
        """Give the code as it is now a part of the requests, watched; each step as it is done."""
        body = question.body
        try:
            share, watch = float(body.get("share", 0)), float(body.get("watch", 0))
        except (TypeError, ValueError) as exc:
            raise Misconfigured("share and watch are numbers") from exc
        steps = self._canaries.run(str(body.get("service", "")), share, watch)
        # Whatever stands against it is an answer of its own, before anything was touched.
        first = await anext(steps)

        async def told() -> AsyncIterator[Mapping[str, Any]]:
            yield canary_row(first)
            async for step in steps:
                yield canary_row(step)

        return told()

    async def reload_gateways(self, question: Question) -> Answer:
        """Have every gateway that is ready read the spec again; with `dry_run` only tell."""
        layout, dry_run = self._project.layout, question.body.get("dry_run") is True
        ready = [r for r in self._fleets.gateway.replicas if r.state is State.READY]
        names = [replica.place.instance_id for replica in ready]
        if not dry_run:
            await self._project.reroute()
        rows = await reload_all(
            {name: layout.gateway_socket(name) for name in names}, dry_run=dry_run
        )
        return {
            "schema": "seawall.gateway-reload/1",
            "dry_run": dry_run,
            "revisions": revisions(rows),
            "gateways": rows,
        }

    async def down(self, question: Question) -> Answer:
        del question
        # Answered first: the answer would not get through once we stop.
        asyncio.get_running_loop().call_soon(self._project.stop, "seawall down")
        return {"schema": "seawall.down/1", "stage": Stage.STOPPING}

    async def _busy(self) -> dict[str, int]:
        return {i.instance_id: i.in_flight for i in await self._registrar.read()}

    def _find(self, name: str) -> tuple[Fleet, Replica | None]:
        """The service of that name, or an instance and its service."""
        fleets = self._fleets.all()
        for fleet in fleets:
            if fleet.name == name:
                return fleet, None
            if (replica := fleet.find(name)) is not None:
                return fleet, replica
        known = [f.name for f in fleets] + [r.place.instance_id for f in fleets for r in f.replicas]
        close = get_close_matches(name, known, n=1)
        known_services = ", ".join(fleet.name for fleet in fleets)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {known_services}"
        raise UnknownName(f"there is no {name!r}; {hint}")

    def _instances(self, name: str) -> list[str]:
        if name == NARRATOR:
            return [NARRATOR]
        fleet, replica = self._find(name)
        if replica is not None:
            return [replica.place.instance_id]
        return [snapshot.place.instance_id for snapshot in fleet.snapshot()]


def _at(fleet: Fleet) -> At | None:
    """Of any ready instance: what is asked is in the service's database."""
    ready = (replica for replica in fleet.replicas if replica.state is State.READY)
    return next((replica.place.at for replica in ready), None)


def _wanted(text: str, was: int) -> int:
    """`3`, `+2` or `-1`. Raises `Misconfigured`."""
    if not text.lstrip("+-").isdecimal():
        raise Misconfigured(f"{text!r} is no number of replicas", fix="3, +2, -1 or auto")
    return was + int(text) if text[0] in "+-" else int(text)


def _number(text: str, name: str) -> int:
    if not text.isdecimal():
        raise Misconfigured(f"{name} is a number, not {text!r}")
    return int(text)
