import subprocess
import sys

import pytest

from seawall.errors import Misconfigured
from seawall.registry.connect import beside, open_registry, split_namespace
from seawall.registry.memory import MemoryRegistry
from seawall.registry.resp import plain_url, without_password
from tests.unit.registry.instances import instance


async def test_memory_is_shared_by_name() -> None:
    one, same, other = (open_registry(f"memory://{name}") for name in ("shop", "shop", "else"))
    await one.renew(instance())
    assert await same.read() == (instance(),)
    assert await other.read() == ()
    assert isinstance(one, MemoryRegistry)


@pytest.mark.parametrize(
    "url", ["", "shop", "mysql://x", "http://localhost", "redis://host:port", "redis://h:99999999"]
)
def test_what_is_no_registry_is_a_persons_to_mend(url: str) -> None:
    with pytest.raises(Misconfigured, match="fix:"):
        open_registry(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/0", ("redis://h:1/0", "seawall")),
        ("redis://h:1/0?namespace=shop", ("redis://h:1/0", "shop")),
        ("unix:///a/b.sock?db=0&namespace=shop", ("unix:///a/b.sock?db=0", "shop")),
        ("unix:///a/b.sock", ("unix:///a/b.sock", "seawall")),
    ],
)
def test_the_namespace_is_taken_out(url: str, expected: tuple[str, str]) -> None:
    assert split_namespace(url) == expected


def test_a_cluster_keeps_no_turns_so_another_server_does() -> None:
    assert beside("redis://h:1/0", None) == "redis://h:1/0"
    assert beside("kubernetes://", "amqp://b/", "redis://s:1/2") == "redis://s:1/2"
    assert beside("kubernetes://shop", "redis://m:1/0", "redis://s:1/2") == "redis://m:1/0"
    assert beside("kubernetes://", "amqp://b/", None) is None


def test_valkey_is_another_word_for_redis() -> None:
    assert plain_url("valkey://h:1/0") == "redis://h:1/0"
    assert plain_url("valkeys://h:1/0") == "rediss://h:1/0"
    assert plain_url("unix:///a.sock?db=0") == "unix:///a.sock?db=0"


def test_passwords_are_not_shown() -> None:
    assert without_password("redis://:secret@h:1/0") == "redis://h:1/0"
    registry = open_registry("redis://user:secret@h:1/0")
    assert "secret" not in repr(registry)


def test_memory_needs_no_redis() -> None:
    code = "import seawall.registry.heartbeat, sys; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
