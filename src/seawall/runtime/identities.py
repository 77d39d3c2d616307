"""The certificates of all that runs here: issued at each start, renewed at half of their life.

The development authority is made on first use. Each process finds its certificate, its key, the
authority to trust and its policy in a folder of its own, and looks there now and then.
"""

import asyncio
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from seawall.clock import Clock
from seawall.errors import Misconfigured, NotSent
from seawall.facts import Observer
from seawall.identity.credentials import POLICY, SHOWN_WITHIN, Credentials, Policy
from seawall.identity.workload import WorkloadId, callers_of
from seawall.runtime.layout import Layout
from seawall.runtime.replica import Place, ReplicaDied, ReplicaStopped, SuccessorFailed
from seawall.spec.project import Spec
from seawall.transport.tls import Secured

if TYPE_CHECKING:
    from seawall.identity.authority import Authority

SUPERVISOR = "supervisor"

# Of a certificate's life. A supervisor that cannot write has the other half to be mended in.
_RENEW_AT = 0.5

# How late a renewal may begin, of the life: a laptop that slept wakes up with old ones.
_LOOK_AT = 1 / 40
_LOOK_MOST = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class RenewalFailed:
    """A certificate could not be written; it is tried again while the old one still counts."""

    name: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class _Held:
    service: str
    since: float  # wall clock


class Identities:
    """Of one project with mTLS. `open` before anything else. An observer of replicas, which
    forgets what belonged to a process that has ended."""

    def __init__(self, spec: Spec, layout: Layout, *, observer: Observer, clock: Clock) -> None:
        self._spec = spec
        self._layout = layout
        self._observer = observer
        self._clock = clock
        self._routed = routed(spec)
        self._lifetime = spec.identity.certificate_lifetime
        self._held: dict[str, _Held] = {}  # by the name of their folder
        self._ended: list[str] = []
        self._authority: Authority | None = None
        self._own: Credentials | None = None

    async def open(self, kept: Collection[str] = ()) -> None:
        """Find or make the authority, and have a certificate ourselves. `kept` are the folders of
        processes that go on under us. Raises `Misconfigured`."""
        await asyncio.to_thread(self._open, frozenset(kept))

    def _open(self, kept: frozenset[str]) -> None:
        if SUPERVISOR in self._spec.services:
            raise Misconfigured(
                f"with mTLS a service cannot be called {SUPERVISOR!r}: everybody lets that in",
                fix="rename it",
            )
        from seawall.identity.authority import Authority  # here: a project without mTLS saves 8 MB

        # What an earlier supervisor issued to others is of no use: each start has its own.
        folders = self._layout.certificates
        names = {folder.name for folder in folders.iterdir()} if folders.is_dir() else set()
        self._remove(names - kept)
        self._authority = Authority.load_or_create(self._layout.authority, self._now())
        try:
            self._issue(SUPERVISOR, SUPERVISOR)
        except OSError as exc:
            raise Misconfigured(
                f"{self._layout.certificates} cannot hold certificates: {exc.strerror}"
            ) from exc
        folder = self._layout.certificates / SUPERVISOR
        self._own = Credentials(folder, observer=self._observer, clock=self._clock)

    async def issue(self, place: Place, incarnation: str) -> Mapping[str, str]:
        """A certificate for a process that starts; where it finds it, as its environment says.
        Raises `NotSent` if it cannot be written."""
        name = f"{place.instance_id}.{incarnation}"
        try:
            await asyncio.to_thread(self._issue, name, place.service)
        except OSError as exc:
            raise NotSent(f"no certificate could be written: {exc.strerror}") from exc
        return {"SEAWALL_TLS": str(self._layout.certificates / name)}

    def __call__(self, fact: object) -> None:
        match fact:
            case (
                ReplicaDied(place=place, incarnation=incarnation)
                | ReplicaStopped(place=place, incarnation=incarnation)
                | SuccessorFailed(place=place, incarnation=incarnation)
            ):
                name = f"{place.instance_id}.{incarnation}"
                if self._held.pop(name, None) is not None:
                    self._ended.append(name)

    def towards(self, service: str) -> Secured | None:
        """How the supervisor itself asks that service; None: without TLS."""
        assert self._own is not None
        return self._own.towards(service)

    async def keep(self) -> None:
        """Renew what is due, until cancelled."""
        assert self._own is not None
        every = min(_LOOK_MOST, self._lifetime * _LOOK_AT)
        while True:
            await self._clock.sleep(every)
            ended, self._ended = self._ended, []
            await asyncio.to_thread(self._remove, ended)
            now = self._clock.wall()
            for name, held in tuple(self._held.items()):
                # Time that went backwards is no reason to wait.
                if not 0 <= now - held.since < self._lifetime * _RENEW_AT:
                    await self._renew(name, held.service)

    async def reroute(self, spec: Spec) -> None:
        """Routes are about to be those of `spec`: return when every service that they lead to lets
        the gateway in. Raises `NotSent` if that cannot be written."""
        before, self._routed = self._routed, routed(spec)
        if before == self._routed:
            return
        for name, held in tuple(self._held.items()):
            # A whole certificate: who is no Python service looks at that alone.
            if not await self._renew(name, held.service):
                self._routed = before
                raise NotSent(f"the policy of {name} could not be written")
        await self._clock.sleep(SHOWN_WITHIN)

    async def follow(self) -> None:
        """Show our own certificate as it is renewed, until cancelled."""
        assert self._own is not None
        await self._own.follow()

    async def _renew(self, name: str, service: str) -> bool:
        held = _Held(service, self._clock.wall())
        try:
            await asyncio.to_thread(self._write, name, service)
        except OSError as exc:
            self._observer(RenewalFailed(name, exc.strerror or str(exc), self._clock.now()))
            return False
        if name in self._held:
            self._held[name] = held
        else:  # it ended meanwhile
            self._ended.append(name)
        return True

    def _issue(self, name: str, service: str) -> None:
        self._write(name, service)
        self._held[name] = _Held(service, self._clock.wall())

    def _write(self, name: str, service: str) -> None:
        assert self._authority is not None
        lifetime = timedelta(seconds=self._lifetime)
        issued = self._authority.issue(self._id(service), self._now(), lifetime=lifetime)
        folder = self._layout.certificates / name
        issued.write(folder, also={POLICY: self.policy(service).to_json()})

    def _remove(self, names: Collection[str]) -> None:
        for name in names:
            shutil.rmtree(self._layout.certificates / name, ignore_errors=True)

    def policy(self, service: str) -> Policy:
        """Who may call that service, and how it calls others."""
        services = self._spec.services
        needs = {name: one.needs for name, one in services.items()}
        project, domain = self._spec.project.name, self._spec.identity.trust_domain
        plain = frozenset(name for name, one in services.items() if not one.mtls)
        return Policy(
            callers=callers_of(service, project, needs, self._routed, domain),
            plain=plain,
            serves=service not in plain,
        )

    def _id(self, service: str) -> WorkloadId:
        return WorkloadId(self._spec.project.name, service, self._spec.identity.trust_domain)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)


def routed(spec: Spec) -> frozenset[str]:
    """The services that the gateway calls: those that a route leads to, and those whose keys it
    reads (`jwks = "service:users/…"`)."""
    named = {name for route in spec.gateway.routes for _, name in route.services()}
    urls = [auth.jwks or "" for auth in spec.gateway.auth.values()]
    asked = {url.removeprefix("service:") for url in urls if url.startswith("service:")}
    return frozenset(named | {one.partition("/")[0] for one in asked})
