"""What a process shows to others, whom it lets in, and how it calls: its certificate, and a
policy beside it, in one folder that somebody else keeps fresh.

    tls.crt, tls.key, ca.crt    as Kubernetes and cert-manager name them
    policy.json                 who may call, and which services are called without TLS
"""

import asyncio
import json
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from seawall.clock import SYSTEM, Clock
from seawall.errors import Misconfigured
from seawall.facts import Observer, ignore
from seawall.identity.mutual import MutualTls
from seawall.identity.workload import NotAdmitted, WorkloadId, admit, peer_id
from seawall.transport.tls import Certificate, Secured, explained, reason

POLICY = "policy.json"

# How soon a new certificate is shown. Those who renew do it hours before the old one ends.
_LOOK_EVERY = 1.0  # seconds

# Seen twice, what was written is whole: its files are replaced one after the other. And a moment
# for a machine that is busy.
SHOWN_WITHIN = 2 * _LOOK_EVERY + 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may call this process, and how it and others are called."""

    callers: frozenset[WorkloadId] = frozenset()
    plain: frozenset[str] = frozenset()  # services that are called without TLS
    serves: bool = True  # whether this process answers by TLS; it calls by TLS in any case

    def to_json(self) -> bytes:
        told = {
            "callers": sorted(str(caller) for caller in self.callers),
            "plain": sorted(self.plain),
            "serves": self.serves,
        }
        return json.dumps(told, indent=2).encode() + b"\n"

    @staticmethod
    def parse(text: bytes) -> "Policy":
        """Raises `Misconfigured`."""
        try:
            told = json.loads(text)
            return Policy(
                frozenset(WorkloadId.parse(caller) for caller in told["callers"]),
                frozenset(map(str, told["plain"])),
                told["serves"] is True,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise Misconfigured(f"{POLICY} is no policy: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """There is no connection with somebody, or their calls are not heard; `reason` is one of few
    words. `times` is how often since it was told last: each reason is told once a second."""

    us: str
    reason: str
    detail: str
    times: int
    at: float

    def __str__(self) -> str:
        often = f", {self.times} times" if self.times > 1 else ""
        return f"{self.us}: {self.reason}{often}: {self.detail}"


@dataclass(frozen=True, slots=True)
class CertificateRenewed:
    """New connections show another certificate, which ends at `until` (seconds since 1970)."""

    us: str
    until: float
    at: float


@dataclass(frozen=True, slots=True)
class CertificateUnusable:
    """What lies in the folder cannot be used; what was read before stays in use."""

    us: str
    reason: str
    at: float


class Credentials:
    """The folder's contents, in use. `follow` keeps them fresh while it runs.

    Making one blocks for about a millisecond and raises `Misconfigured`.
    """

    def __init__(
        self, directory: Path | str, *, observer: Observer = ignore, clock: Clock = SYSTEM
    ) -> None:
        self._directory = Path(directory)
        self._observer = observer
        self._clock = clock
        self._refusals = _Refusals(self._tell)
        self._seen = self._state()
        self._tls = MutualTls(self._directory, self._failed)
        self.me, self.until = _shown(self._tls.certificate)
        self.policy = self._policy()

    @property
    def server(self) -> ssl.SSLContext | None:
        """What to serve with; None if others call this process without TLS."""
        return self._tls.server if self.policy.serves else None

    def observe(self, observer: Observer) -> None:
        """Tell `observer` from now on."""
        self._observer = observer

    def admit(self, certificate: Certificate | None) -> WorkloadId:
        """Who calls. Raises `NotAdmitted` unless they may, and tells so."""
        try:
            caller = peer_id(certificate)
            admit(caller, self.policy.callers, self.me)
        except NotAdmitted as refused:
            self._refused(refused.reason, str(refused))
            raise
        return caller

    def towards(self, service: str) -> Secured | None:
        """How to call that service; None: without TLS."""
        if service in self.policy.plain:
            return None
        whom = WorkloadId(self.me.project, service, self.me.trust_domain)
        return Secured(self._tls.client, partial(self._expect, whom))

    def _expect(self, whom: WorkloadId, certificate: Certificate | None) -> None:
        try:
            found = peer_id(certificate)
            if found != whom:
                raise NotAdmitted("not allowed", f"{found} answers where {whom} was called")
        except NotAdmitted as refused:
            self._refused(refused.reason, str(refused))
            raise

    def _failed(self, error: ssl.SSLError) -> None:
        self._refused(reason(error), explained(error))

    def _refused(self, why: str, detail: str) -> None:
        self._refusals.add(why, detail, self._clock.now())

    def _tell(self, why: str, detail: str, times: int, now: float) -> None:
        self._observer(PeerRefused(str(self.me), why, detail, times, now))

    async def follow(self) -> None:
        """Show what the folder holds, two seconds after it was written there, until cancelled.
        Open connections go on with what they agreed on."""
        before = self._seen
        while True:
            await self._clock.sleep(_LOOK_EVERY)
            self._refusals.settle(self._clock.now())
            found = await asyncio.to_thread(self._state)
            if found == before != self._seen:
                await self.refresh()
                self._seen = found
            before = found

    async def refresh(self) -> None:
        """Take what the folder holds now; tell if that is new, or cannot be used."""
        try:
            self.policy = await asyncio.to_thread(self._policy)
            if not await self._tls.refreshed():
                return
            self.me, self.until = _shown(self._tls.certificate)
        except Misconfigured as exc:
            self._observer(CertificateUnusable(str(self.me), str(exc), self._clock.now()))
            return
        now = self._clock.now()
        self._observer(CertificateRenewed(str(self.me), self.until.timestamp(), now))

    def _state(self) -> tuple[tuple[int, int], ...]:
        """Changes whenever a file is replaced."""
        found: list[tuple[int, int]] = []
        for name in ("tls.crt", "tls.key", "ca.crt", POLICY):
            try:
                stat = os.stat(self._directory / name)
            except OSError:
                found.append((0, 0))  # being replaced, or gone: reading it says what it is
            else:
                found.append((stat.st_ino, stat.st_mtime_ns))
        return tuple(found)

    def _policy(self) -> Policy:
        path = self._directory / POLICY
        try:
            return Policy.parse(path.read_bytes())
        except OSError as exc:
            raise Misconfigured(f"{path} cannot be read: {exc.strerror}") from exc

    def __repr__(self) -> str:
        return f"<Credentials of {self.me} until {self.until:%Y-%m-%d %H:%M} UTC>"


class _Refusals:
    """Counts refusals, and tells of each reason once a second: whoever knocks a thousand times a
    second shall not fill the log. There are few reasons, so this is bounded."""

    def __init__(self, tell: Callable[[str, str, int, float], None]) -> None:
        self._tell = tell
        self._told: dict[str, float] = {}
        self._held: dict[str, tuple[int, str]] = {}

    def add(self, why: str, detail: str, now: float) -> None:
        times = self._held.pop(why, (0, ""))[0] + 1
        if now - self._told.get(why, float("-inf")) < _LOOK_EVERY:
            self._held[why] = times, detail
            return
        self._told[why] = now
        self._tell(why, detail, times, now)

    def settle(self, now: float) -> None:
        """Tell what was held back."""
        for why, (times, detail) in tuple(self._held.items()):
            if now - self._told[why] >= _LOOK_EVERY:
                del self._held[why]
                self._told[why] = now
                self._tell(why, detail, times, now)


def _shown(pem: bytes) -> tuple[WorkloadId, datetime]:
    """Whose certificate that is, and when it ends. Raises `Misconfigured`."""
    from cryptography import x509  # here: who has no certificate saves 70 ms and 8 MB

    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    if len(uris) != 1:
        raise Misconfigured(
            f"tls.crt has {len(uris)} URIs instead of one",
            fix="a certificate with one SPIFFE id: spiffe://DOMAIN/PROJECT/SERVICE",
        )
    return WorkloadId.parse(uris[0]), certificate.not_valid_after_utc
