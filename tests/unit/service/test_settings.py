import os
import socket
from pathlib import Path

import pytest

from seawall.errors import Misconfigured
from seawall.service.settings import Settings
from seawall.topology import Address


def test_without_any_it_runs_alone() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.registry_url.startswith("memory://")
    assert settings.address is None


def test_instances_on_different_machines_are_not_one() -> None:
    assert Settings(instance_id="orders-1").instance_of("orders") == "orders-1"
    machine = socket.gethostname().partition(".")[0]
    assert Settings().instance_of("orders") == f"orders-{machine}-{os.getpid()}"


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://u:p@db/x\n")
    settings = Settings.from_environment(
        {
            "SEAWALL_REGISTRY__URL": "redis://r",
            "SEAWALL_MESSAGES__URL": "redis://m",
            "SEAWALL_SESSIONS__URL": "redis://s",
            "SEAWALL_DATABASE__URL_FILE": str(secret),
            "SEAWALL_INSTANCE_ID": "orders-2",
            "SEAWALL_INCARNATION": "abc",
            "SEAWALL_LISTEN_FD": "5",
            "HOST": "0.0.0.0",
            "PORT": "8000",
            "LOG_LEVEL": "debug",
            "SEAWALL_DRAIN_SECONDS": "2.5",
            "SEAWALL_PROPAGATION_SECONDS": "0",
            "SEAWALL_ZONE": "b",
            "SEAWALL_PRIORITY": "1",
        }
    )
    assert settings.database_url == "postgresql://u:p@db/x"
    assert settings.address == Address("0.0.0.0", 8000)
    assert (settings.drain, settings.propagation, settings.log_level) == (2.5, 0.0, "DEBUG")
    assert (settings.listen_fd, settings.incarnation) == (5, "abc")
    assert (settings.zone, settings.priority) == ("b", 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "-1"),
        ("SEAWALL_LISTEN_FD", "٣"),
        ("SEAWALL_DRAIN_SECONDS", "soon"),
        ("SEAWALL_DRAIN_SECONDS", "-1"),
        ("SEAWALL_DRAIN_SECONDS", "nan"),
        ("SEAWALL_DATABASE__URL_FILE", "/no/such/file"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=name):
        Settings.from_environment({name: value})
