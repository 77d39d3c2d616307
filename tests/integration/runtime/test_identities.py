"""A project with mTLS: every process has a certificate, and only the declared ones may call."""

import socket
import stat
import urllib.error
import urllib.request

from tests.integration.runtime.conftest import Project
from tests.support.waiting import eventually_sync

SERVICES = """
from seawall import Service

inventory = Service("inventory")

@inventory.get("/stock")
async def stock():
    return {"tea": 7}

def caller(name):
    service = Service(name)
    client = service.client("inventory")

    @service.get("/ask")
    async def ask():
        answer = await client.get("/stock")
        return {"status": answer.status, "body": answer.body.decode()}

    return service

orders = caller("orders")
recommendations = caller("recommendations")
"""

DECLARED = """
[identity]
mtls = true

[services.inventory]
module = "stocked:inventory"

[services.orders]
module = "stocked:orders"
needs = ["inventory"]

[services.recommendations]
module = "stocked:recommendations"

[[gateway.routes]]
path = "/ask"
service = "orders"
"""


def asked(project: Project, service: str) -> dict[str, object]:
    """What `service` got when it asked the inventory."""
    return dict(project.json("call", service, "/ask")["body"])


def answered(url: str) -> str:
    """The body, or the status of an answer that is none."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as refused:
        return str(refused.code)


def test_only_those_who_need_a_service_may_call_it(project: Project) -> None:
    project.write("stocked.py", SERVICES)
    project.declare(DECLARED, registry="", gateways=1)
    project.up()
    identity = project.folder / ".seawall" / "identity"

    assert asked(project, "orders") == {"status": 200, "body": '{"tea":7}'}

    refused = asked(project, "recommendations")
    assert refused["status"] == 403
    ours = f"spiffe://seawall.local/{project.folder.name}"
    assert f"{ours}/recommendations may not talk to {ours}/inventory" in str(refused["body"])
    said = project.run("logs", "inventory").stdout
    assert f"WARN {ours}/inventory: not allowed: {ours}/recommendations may not" in said

    row = project.instances()["inventory-1"]
    assert row["tls"] is True
    host, _, port = row["address"].rpartition(":")
    with socket.create_connection((host, int(port))) as plain:
        plain.settimeout(10)
        plain.sendall(b"GET /stock HTTP/1.1\r\nhost: inventory\r\n\r\n")
        assert b"HTTP" not in plain.recv(1000)
    eventually_sync(lambda: "not TLS" in project.run("logs", "inventory").stdout)

    gateway = project.instances()["gateway-1"]["address"]
    assert project.json("call", "gateway", "/ask")["body"]["status"] == 200
    assert answered(f"http://{gateway}/stock") == "404"
    with (project.folder / "seawall.toml").open("a") as file:
        file.write('[[gateway.routes]]\npath = "/stock"\nservice = "inventory"\n')
    assert project.run("gateway", "reload").returncode == 0
    # At once where the machine is not so busy that processes look at their files late.
    eventually_sync(lambda: answered(f"http://{gateway}/stock") == '{"tea":7}')

    keys = [identity / "authority.pem", *identity.glob("certificates/*/tls.key")]
    assert len(keys) == 6  # and the gateway's, and the supervisor's
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_a_command_that_speaks_no_tls_says_so_or_is_left_out(project: Project) -> None:
    project.declare(
        "[identity]\nmtls = true\n"
        + project.service("new")
        + project.service("old", more="mtls = false")
    )
    project.up(ready=False)
    eventually_sync(lambda: project.ready("old-1"), within=20)
    eventually_sync(lambda: "does not speak TLS" in project.instances()["new-1"]["reason"])
    assert project.run("call", "old", "/hello").stdout == "/hello\n"
    shown = project.run("ps").stdout
    assert "set mtls = false for this service" in shown
    assert "mTLS except old" in shown
