"""What lies in the folder, in use: on a clock that a test moves."""

import asyncio
import ssl
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from seawall.concurrency.tasks import Tasks
from seawall.errors import Misconfigured
from seawall.identity.credentials import (
    POLICY,
    CertificateRenewed,
    CertificateUnusable,
    Credentials,
    PeerRefused,
)
from seawall.identity.workload import NotAdmitted
from seawall.testing.clock import ManualClock
from seawall.transport.tls import Certificate, explained, reason
from tests.support.identified import Issuing, workload
from tests.support.waiting import eventually


@pytest.fixture
def issuing(tmp_path: Path) -> Issuing:
    return Issuing(tmp_path)


class Following:
    """Credentials that follow their folder."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.facts: list[object] = []
        self.folder = folder
        self.credentials = Credentials(folder, observer=self.facts.append, clock=self.clock)

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await eventually(lambda: self.clock.sleeping > 0)
            self.clock.advance(1.0)
        await eventually(lambda: self.clock.sleeping > 0)


def shown(who: str) -> Certificate:
    return {"subjectAltName": (("URI", str(workload(who))),)}


async def test_a_new_certificate_is_shown_once_it_is_whole(issuing: Issuing) -> None:
    before = partial(issuing.write, "inventory", ("orders",), since=-timedelta(hours=1))
    folder = await asyncio.to_thread(before)
    following = await asyncio.to_thread(Following, folder)
    old = following.credentials.until
    async with Tasks() as tasks:
        tasks.start(following.credentials.follow())
        await following.look(3)
        assert following.facts == []
        await asyncio.to_thread(issuing.write, "inventory", ("orders", "catalog"))
        await following.look(1)
        assert following.facts == []  # it may be half of one
        await following.look(1)
    (fact,) = following.facts
    assert isinstance(fact, CertificateRenewed)
    assert fact.until == following.credentials.until.timestamp() > old.timestamp()
    assert following.credentials.admit(shown("catalog")) == workload("catalog")


@pytest.mark.parametrize("name", ["tls.key", "policy.json"])
async def test_what_cannot_be_used_is_told_and_what_was_goes_on(
    issuing: Issuing, name: str
) -> None:
    folder = await asyncio.to_thread(issuing.write, "inventory", ("orders",))
    following = await asyncio.to_thread(Following, folder)
    async with Tasks() as tasks:
        tasks.start(following.credentials.follow())
        await asyncio.to_thread((folder / name).write_text, "nonsense")
        await following.look(3)
        (fact,) = following.facts
        assert isinstance(fact, CertificateUnusable)
        assert following.credentials.admit(shown("orders")) == workload("orders")
        await asyncio.to_thread(issuing.write, "inventory", ("orders",))
        await following.look(3)
    assert isinstance(following.facts[-1], CertificateRenewed)


async def test_refusals_are_counted_and_told_once_a_second(issuing: Issuing) -> None:
    folder = await asyncio.to_thread(issuing.write, "inventory", ("orders",))
    following = await asyncio.to_thread(Following, folder)
    for _ in range(100):
        with pytest.raises(NotAdmitted):
            following.credentials.admit(shown("catalog"))
    with pytest.raises(NotAdmitted):
        following.credentials.admit(None)
    async with Tasks() as tasks:
        tasks.start(following.credentials.follow())
        await following.look(2)
    told = [fact for fact in following.facts if isinstance(fact, PeerRefused)]
    assert [(fact.reason, fact.times) for fact in told] == [
        ("not allowed", 1),
        ("no certificate", 1),
        ("not allowed", 99),
    ]
    assert "shop/catalog may not talk to" in str(told[2])
    assert "99 times" in str(told[2])


def test_a_folder_without_a_policy_or_certificate_is_refused(
    issuing: Issuing, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match=r"tls\.crt cannot be read"):
        Credentials(tmp_path)
    folder = issuing.write("inventory")
    (folder / POLICY).unlink()
    with pytest.raises(Misconfigured, match=r"policy\.json cannot be read"):
        Credentials(folder)


def test_an_authority_is_nobody_that_can_be_called(issuing: Issuing, tmp_path: Path) -> None:
    folder = issuing.write("inventory")
    certificate, _, key = issuing.authority.pem().partition(b"-----BEGIN PRIVATE")
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(b"-----BEGIN PRIVATE" + key)
    with pytest.raises(Misconfigured, match="0 URIs instead of one"):
        Credentials(folder)


@pytest.mark.parametrize(
    ("name", "short", "long"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "refused by the other side", "unknown ca"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "refused by the other side", "required"),
        ("WRONG_VERSION_NUMBER", "not TLS", "does not speak TLS"),
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "no certificate", "showed no certificate"),
        ("SOMETHING_ELSE", "no handshake", "SOMETHING_ELSE"),
    ],
)
def test_a_handshake_fails_for_a_reason_with_a_name(name: str, short: str, long: str) -> None:
    error = ssl.SSLError(1, name)
    error.reason = name
    assert reason(error) == short
    assert long in explained(error)
