"""Both sides of a handshake, in memory: who gets in, who does not, and what a rotation changes."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from seawall.errors import Misconfigured
from seawall.identity.authority import LIFETIME, Authority
from seawall.identity.mutual import MutualTls
from seawall.identity.workload import NotAdmitted, WorkloadId, admit, callers_of, peer_id

ORDERS = WorkloadId("shop", "orders")
INVENTORY = WorkloadId("shop", "inventory")
RECOMMENDATIONS = WorkloadId("shop", "recommendations")
NEEDS = {"orders": ["inventory"], "recommendations": ["catalog"]}


def now() -> datetime:
    return datetime.now(UTC)


class Link:
    """A TLS connection without a network; `wire` is every byte that went over it."""

    def __init__(self, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._up, self._down = up, down
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._to_server, self._to_client = to_server, to_client
        self.client = client.wrap_bio(to_client, up)
        self.server = server.wrap_bio(to_server, down, server_side=True)
        self.wire = b""

    def shake(self) -> None:
        """Raises what either side raises."""
        waiting: list[Callable[[], None]] = [self.client.do_handshake, self.server.do_handshake]
        for _ in range(10):
            waiting = [one for one in waiting if not _done(one)]
            self._carry()
            if not waiting:
                return
        raise AssertionError("the handshake does not end")

    def say(self, text: bytes) -> bytes:
        self.client.write(text)
        self._carry()
        return self.server.read()

    def _carry(self) -> None:
        up, down = self._up.read(), self._down.read()
        self.wire += up + down
        self._to_server.write(up)
        self._to_client.write(down)


def _done(handshake: Callable[[], None]) -> bool:
    try:
        handshake()
    except ssl.SSLWantReadError:
        return False
    return True


@pytest.fixture
def authority() -> Authority:
    return Authority.generate(now())


def identity(
    authority: Authority, who: WorkloadId, path: Path, *, since: datetime | None = None
) -> MutualTls:
    directory = path / who.service
    authority.issue(who, since or now()).write(directory)
    return MutualTls(directory)


def test_both_sides_learn_who_the_other_is(authority: Authority, tmp_path: Path) -> None:
    orders = identity(authority, ORDERS, tmp_path)
    inventory = identity(authority, INVENTORY, tmp_path)
    link = Link(orders.client, inventory.server)
    link.shake()
    assert peer_id(link.server.getpeercert()) == ORDERS
    assert peer_id(link.client.getpeercert()) == INVENTORY


def test_nothing_readable_goes_over_the_wire(authority: Authority, tmp_path: Path) -> None:
    orders = identity(authority, ORDERS, tmp_path)
    link = Link(orders.client, identity(authority, INVENTORY, tmp_path).server)
    link.shake()
    assert link.say(b"GET /stock HTTP/1.1") == b"GET /stock HTTP/1.1"
    assert b"HTTP" not in link.wire
    assert b"stock" not in link.wire


def test_wrong_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    inventory = identity(authority, INVENTORY, tmp_path)
    stranger = identity(Authority.generate(now()), ORDERS, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        Link(stranger.client, inventory.server).shake()


def test_a_server_of_a_wrong_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    orders = identity(authority, ORDERS, tmp_path)
    stranger = identity(Authority.generate(now()), INVENTORY, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        Link(orders.client, stranger.server).shake()


@pytest.mark.parametrize(
    ("since", "reason"),
    [(-LIFETIME - timedelta(minutes=1), "expired"), (timedelta(hours=1), "not yet valid")],
)
def test_a_certificate_counts_in_its_time_only(
    authority: Authority, tmp_path: Path, since: timedelta, reason: str
) -> None:
    inventory = identity(authority, INVENTORY, tmp_path)
    orders = identity(authority, ORDERS, tmp_path, since=now() + since)
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        Link(orders.client, inventory.server).shake()


def test_a_client_without_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    inventory = identity(authority, INVENTORY, tmp_path)
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        Link(nobody, inventory.server).shake()


def test_older_protocols_are_refused(authority: Authority, tmp_path: Path) -> None:
    orders = identity(authority, ORDERS, tmp_path)
    inventory = identity(authority, INVENTORY, tmp_path)
    orders.client.minimum_version = ssl.TLSVersion.TLSv1_2
    orders.client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        Link(orders.client, inventory.server).shake()


def test_a_rotation_leaves_open_connections_alone(authority: Authority, tmp_path: Path) -> None:
    orders = identity(authority, ORDERS, tmp_path)
    inventory = identity(authority, INVENTORY, tmp_path)
    before = Link(orders.client, inventory.server)
    before.shake()
    authority.issue(INVENTORY, now()).write(tmp_path / "inventory")
    assert inventory.refresh()
    assert not inventory.refresh()
    after = Link(orders.client, inventory.server)
    after.shake()
    assert before.say(b"still here") == b"still here"
    assert after.say(b"new") == b"new"
    first, second = before.client.getpeercert(), after.client.getpeercert()
    assert first is not None
    assert second is not None
    assert first["serialNumber"] != second["serialNumber"]


def test_half_a_rotation_changes_nothing(authority: Authority, tmp_path: Path) -> None:
    orders = identity(authority, ORDERS, tmp_path)
    inventory = identity(authority, INVENTORY, tmp_path)
    (tmp_path / "inventory" / "tls.crt").write_bytes(authority.issue(INVENTORY, now()).certificate)
    with pytest.raises(Misconfigured, match="do not fit together"):
        inventory.refresh()
    Link(orders.client, inventory.server).shake()


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"tls\.crt cannot be read"):
        MutualTls(tmp_path)


def test_the_authority_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "authority.pem"
    first = Authority.load_or_create(path, now())
    assert path.stat().st_mode & 0o777 == 0o600
    assert Authority.load_or_create(path, now()).certificate == first.certificate
    assert "PRIVATE" not in repr(first.issue(ORDERS, now()))


def test_an_authority_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "authority.pem"
    Authority.load_or_create(path, now())
    path.chmod(0o644)
    with pytest.raises(Misconfigured, match="chmod 600"):
        Authority.load_or_create(path, now())


def test_an_expired_authority_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "authority.pem"
    Authority.load_or_create(path, now() - timedelta(days=366))
    with pytest.raises(Misconfigured, match="start again"):
        Authority.load_or_create(path, now())


def test_a_key_is_readable_by_its_owner_only(authority: Authority, tmp_path: Path) -> None:
    identity(authority, ORDERS, tmp_path)
    assert (tmp_path / "orders" / "tls.key").stat().st_mode & 0o777 == 0o600


def test_a_certificate_is_a_leaf_with_one_uri(authority: Authority) -> None:
    made = x509.load_pem_x509_certificate(authority.issue(ORDERS, now()).certificate)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(ORDERS)]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert made.not_valid_after_utc - made.not_valid_before_utc <= timedelta(hours=24)


def test_who_may_call_whom_follows_the_declared_needs() -> None:
    allowed = callers_of("inventory", "shop", NEEDS, routed=["orders"])
    admit(ORDERS, allowed, INVENTORY)
    admit(WorkloadId("shop", "supervisor"), allowed, INVENTORY)
    for refused in (
        RECOMMENDATIONS,
        WorkloadId("shop", "gateway"),
        WorkloadId("other", "orders"),
        WorkloadId("shop", "orders", "elsewhere.local"),
    ):
        with pytest.raises(NotAdmitted, match="may not talk to") as caught:
            admit(refused, allowed, INVENTORY)
        assert caught.value.reason == "not allowed"


def test_the_gateway_may_call_what_is_routed() -> None:
    allowed = callers_of("orders", "shop", NEEDS, routed=["orders"])
    admit(WorkloadId("shop", "gateway"), allowed, ORDERS)


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (None, "no certificate"),
        ({}, "no certificate"),
        ({"subjectAltName": (("DNS", "orders"),)}, "no identity"),
        ({"subjectAltName": (("URI", str(ORDERS)), ("URI", str(INVENTORY)))}, "no identity"),
        ({"subjectAltName": (("URI", "https://orders"),)}, "no identity"),
    ],
)
def test_what_shows_no_identity_is_not_admitted(
    certificate: dict[str, object] | None, reason: str
) -> None:
    with pytest.raises(NotAdmitted) as caught:
        peer_id(certificate)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        "orders",
        "https://seawall.local/shop/orders",
        "spiffe://seawall.local/shop",
        "spiffe://seawall.local/shop/orders/",
        "spiffe://seawall.local/shop/..",
        "spiffe://seawall.local/shop/or%64ers",
        "spiffe://seawall.local:1/shop/orders",
        "spiffe://Seawall.local/shop/orders",
        "spiffe://seawall.local/shop/orders?x",
        "spiffe://seawall.local/shop/" + "a" * 2048,
    ],
)
def test_what_is_no_identity(text: str) -> None:
    with pytest.raises(Misconfigured):
        WorkloadId.parse(text)


def test_an_identity_reads_as_it_is_written() -> None:
    assert WorkloadId.parse(str(ORDERS)) == ORDERS
