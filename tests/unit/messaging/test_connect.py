"""From a URL to a transport."""

import subprocess
import sys

import pytest

from seawall.errors import Misconfigured
from seawall.messaging.base import Message, Subscription
from seawall.messaging.connect import open_transport
from seawall.messaging.transports.resp import Server


async def test_memory_is_shared_by_name() -> None:
    one, two, other = (open_transport(f"memory://{name}") for name in ("x", "x", "y"))
    alone = [open_transport("memory://"), open_transport("memory://")]
    sub = Subscription("t", "g")
    for transport in (one, two, other, *alone):
        await transport.open()
    await one.publish("t", [Message("m", b"")])
    await alone[0].publish("t", [Message("m", b"")])
    assert not await other.fetch(sub, 1, wait=0, lease=1)
    assert not await alone[1].fetch(sub, 1, wait=0, lease=1)
    assert len(await two.fetch(sub, 1, wait=0, lease=1)) == 1


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("redis://h:1/2", Server(host="h", port=1, db=2)),
        ("valkey://h", Server(host="h")),
        ("rediss://u:p@h:1", Server(host="h", port=1, username="u", password="p", tls=True)),
        ("valkeys://:p@h", Server(host="h", password="p", tls=True)),
        ("unix:///run/valkey.sock?db=3", Server(path="/run/valkey.sock", db=3)),
    ],
)
def test_a_server_is_read_from_its_url(url: str, server: Server) -> None:
    assert Server.parse(url) == server


def test_passwords_are_not_shown() -> None:
    assert "secret" not in repr(Server.parse("redis://:secret@h"))


@pytest.mark.parametrize("url", ["", "smtp://h", "redis://h:port", "nonsense"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(Misconfigured):
        open_transport(url)


def test_memory_needs_no_client_library() -> None:
    code = (
        "import sys; from seawall.messaging.connect import open_transport;"
        "open_transport('memory://');"
        "clients = {'redis', 'sqlalchemy', 'pydantic', 'aiormq', 'nats'};"
        "clients |= {'confluent_kafka', 'aiobotocore'};"
        "print(clients & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("amqp://h", "aiormq", "rabbitmq"),
        ("kafka://h:9092", "confluent_kafka", "kafka"),
        ("sqs://eu-west-1", "aiobotocore", "sqs"),
        ("eventbridge://eu-west-1", "aiobotocore", "sqs"),
    ],
)
def test_a_client_that_is_not_installed_is_named(url: str, package: str, extra: str) -> None:
    # A finder that does not find it: as on a machine without the extra.
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name={package!r})

sys.meta_path.insert(0, Missing())
from seawall.errors import Misconfigured
from seawall.messaging.connect import open_transport

try:
    open_transport({url!r})
except Misconfigured as error:
    print(error.fix)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"pip install 'seawall[{extra}]'"
