"""What is peculiar to NATS: who may connect, and over what."""

import base64
import binascii
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from seawall.clock import SYSTEM
from seawall.errors import Misconfigured, Unavailable
from seawall.messaging.transports.nats import NatsTransport
from seawall.messaging.transports.nats_options import Nats
from tests.support import servers
from tests.support.brokers import chosen
from tests.support.certificates import certificate
from tests.support.transports import carries_a_message

pytestmark = pytest.mark.skipif(not chosen("nats"), reason="not among SEAWALL_TEST_BROKERS")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[servers.NatsServer]:
    """A server that speaks TLS only, and only with one user."""
    cert, key = certificate(tmp_path)
    config = f"""
    tls {{ cert_file: "{cert}", key_file: "{key}" }}
    authorization {{ user: me, password: "p@ss" }}
    """
    server = servers.NatsServer(config).start()
    yield server
    server.stop()


async def test_tls_and_a_password(guarded: servers.NatsServer, tmp_path: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    for scheme in ("tls", "nats"):  # a server that wants TLS gets it
        options = Nats(servers=(f"{scheme}://me:p%40ss@127.0.0.1:{guarded.port}",))
        assert await carries_a_message(NatsTransport(options, tls=trusting), scheme)
    with pytest.raises(Unavailable, match="certificate"):
        await NatsTransport(options).open()
    wrong = Nats(servers=(f"tls://me:other@127.0.0.1:{guarded.port}",))
    with pytest.raises(Misconfigured, match="Authorization"):
        await NatsTransport(wrong, tls=trusting).open()


async def test_nothing_is_said_to_a_server_without_tls(nats: servers.NatsServer) -> None:
    url = nats.url.replace("nats://", "tls://me:secret@")
    with pytest.raises(Misconfigured, match="does not speak TLS"):
        await NatsTransport(Nats.parse(url)).open()


KINDS = {"operator": 14 << 3, "account": 0, "user": 20 << 3}


class Identity:
    """A key of NATS' decentralised authentication, as `nsc` makes it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._key = Ed25519PrivateKey.generate()
        self.name = _encoded(bytes([KINDS[kind]]) + self._key.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        kind = KINDS[self._kind]
        prefix = bytes([18 << 3 | kind >> 5, (kind & 31) << 3])
        return _encoded(prefix + self._key.private_bytes_raw())

    def token_for(self, other: "Identity", limits: dict[str, object]) -> str:
        claims = {
            "jti": other.name,
            "iat": round(SYSTEM.wall()),
            "iss": self.name,
            "name": other._kind,
            "sub": other.name,
            "nats": {"type": other._kind, "version": 2, **limits},
        }
        parts = ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)
        text = ".".join(_url_safe(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_url_safe(self._key.sign(text.encode()))}"


def _encoded(raw: bytes) -> str:
    return (
        base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")
    )


def _url_safe(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


async def test_a_credentials_file(tmp_path: Path) -> None:
    operator, system, account = Identity("operator"), Identity("account"), Identity("account")
    unlimited = dict.fromkeys(
        ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1
    ) | {"wildcards": True}
    storage = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
    tokens = {
        system: operator.token_for(system, {"limits": unlimited}),
        account: operator.token_for(account, {"limits": unlimited | storage}),
    }
    server = servers.NatsServer(
        f"""
        operator: {operator.token_for(operator, {})}
        system_account: {system.name}
        resolver: MEMORY
        resolver_preload: {{ {", ".join(f"{who.name}: {is_} " for who, is_ in tokens.items())} }}
        """
    ).start()
    try:
        file = tmp_path / "app.creds"
        options = Nats(servers=(server.url,), credentials=str(file))
        with pytest.raises(Misconfigured, match="credentials"):
            await NatsTransport(options).open()
        user = Identity("user")
        anything = {"subs": -1, "data": -1, "payload": -1}
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{account.token_for(user, anything)}\n"
            f"------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{user.seed}\n"
            "------END USER NKEY SEED------\n"
        )
        assert await carries_a_message(NatsTransport(options), "topic")
    finally:
        server.stop()
