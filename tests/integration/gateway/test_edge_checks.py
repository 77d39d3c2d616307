"""What nginx, HAProxy and Envoy say themselves about the configurations that Seawall writes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from seawall.gateway.export.front import Certificate, Front
from seawall.runtime.gateway_export import PROGRAMS
from seawall.topology import Address
from tests.support.edges import EDGES, check

LISTEN = Address("127.0.0.1", 18080)
FRONTS = {
    "one": Front(listen=LISTEN, gateways=(Address("127.0.0.1", 8000),)),
    "several": Front(
        listen=Address("::1", 18080),
        gateways=(Address("10.0.0.7", 8000), Address("::1", 8000)),
        admin_port=9901,
        upgrades=("mqtt", "websocket"),
    ),
    "named": Front(listen=LISTEN, gateways=(Address("localhost", 8000),), admin_port=9901),
    "nothing to send": Front(listen=LISTEN, gateways=(Address("127.0.0.1", 8000),), max_body=0),
}


def _accepted(program: str, front: Front, folder: Path) -> None:
    file = folder / "edge.yaml"
    file.write_text(PROGRAMS[program][0](front))
    said = check(program, file)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("program", EDGES)
@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS)
def test_it_is_accepted(program: str, front: Front, tmp_path: Path) -> None:
    _accepted(program, front, tmp_path)


@pytest.mark.parametrize("program", EDGES)
def test_it_is_accepted_with_tls(program: str, tmp_path: Path) -> None:
    certificate = Certificate(file=str(_certificate(tmp_path)))
    gateways = (Address("127.0.0.1", 8000),)
    _accepted(program, Front(listen=LISTEN, gateways=gateways, certificate=certificate), tmp_path)


@pytest.mark.parametrize("program", EDGES)
def test_the_check_is_one(program: str, tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text(PROGRAMS[program][0](FRONTS["one"]).replace("8000", "eight thousand"))
    assert check(program, file).returncode != 0


def _certificate(folder: Path) -> Path:
    """A certificate of its own, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "edge.pem"
    form = serialization.Encoding.PEM
    file.write_bytes(
        made.public_bytes(form)
        + key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file
