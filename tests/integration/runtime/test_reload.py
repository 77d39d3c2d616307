"""`seawall reload` under load that does not stop: other code, and not one request less."""

import asyncio
import hashlib
import json
import shutil
from pathlib import Path

from redis.asyncio import Redis

from seawall.runtime.layout import Layout
from tests.integration.runtime.conftest import Project, can_connect
from tests.support.servers import missing
from tests.support.waiting import eventually_sync

SERVICE = """
from seawall import Service

service = Service("hello", version="{version}")

@service.get("/")
async def who() -> str:
    return "{version}"
"""

DECLARED = """
[services.hello]
module = "hello:service"
replicas = 2
drain = 2.0
"""

NODE = """
const server = require('http').createServer((q, r) => r.end('VERSION'));
server.listen(+process.env.PORT, process.env.HOST);
process.on('SIGTERM', () => server.close(() => process.exit(0)));
"""

BROKEN = "raise SystemExit('the new code is broken')"


def route(service: str) -> str:
    return f'\n[[gateway.routes]]\npath = "/"\nservice = "{service}"\n'


def test_a_python_service_is_reloaded_without_losing_a_request(project: Project) -> None:
    project.write("hello.py", SERVICE.format(version="1.0.0"))
    project.declare(route("hello") + DECLARED, gateways=1, registry="")
    project.up()
    before = project.instances()
    project.write("hello.py", SERVICE.format(version="2.0.0"))

    done = project.run("reload", "hello", "--verify")

    assert done.returncode == 0, done.stdout + done.stderr + project.said()
    assert " 0 failed" in done.stdout
    after = project.instances()
    for name in ("hello-1", "hello-2"):
        assert after[name]["pid"] != before[name]["pid"]
        assert after[name]["address"] == before[name]["address"]
        assert after[name]["restarts"] == 0
    assert project.json("call", "hello-1", "/")["body"] == "2.0.0"

    project.write("hello.py", BROKEN)
    refused = project.run("reload", "hello")

    assert refused.returncode == 1
    assert "the successor of hello-1 did not become ready" in refused.stderr
    assert "the new code is broken" in refused.stderr
    kept = project.instances()
    assert [row["pid"] for row in kept.values()] == [row["pid"] for row in after.values()]
    eventually_sync(lambda: project.instances()["hello-1"]["registered"] == "ready")


def test_one_process_alone_is_reloaded_without_losing_a_request(project: Project) -> None:
    """Whom it follows leaves only once the registry knows the successor: nobody else is there.
    Where no open route leads to it, it is asked as those that call it do."""
    project.write("hello.py", SERVICE.format(version="1.0.0"))
    project.write("quiet.py", SERVICE.format(version="1.0.0").replace("hello", "quiet"))
    alone = DECLARED.replace("replicas = 2", "replicas = 1")
    quiet = alone.replace("hello", "quiet")
    project.declare(route("hello") + alone + quiet, gateways=1, registry="")
    project.up()
    for name in ("hello", "hello", "quiet"):
        before = project.instances()[f"{name}-1"]["pid"]
        done = project.run("reload", name, "--verify")
        assert done.returncode == 0, done.stdout + done.stderr + project.said()
        assert " 0 failed" in done.stdout
        assert project.instances()[f"{name}-1"]["pid"] != before


def test_a_nodejs_command_is_reloaded_without_losing_a_request(project: Project) -> None:
    if shutil.which("node") is None:
        missing("node")
    project.write("web.js", NODE.replace("VERSION", "one"))
    declared = '[services.web]\ncommand = ["node", "web.js"]\nreplicas = 1\nhealth = "/"\n'
    project.declare(route("web") + declared, gateways=1, registry="")
    project.up()
    before = project.instances()
    project.write("web.js", NODE.replace("VERSION", "two"))

    done = project.run("reload", "web", "--verify")

    assert done.returncode == 0, done.stdout + done.stderr + project.said()
    assert " 0 failed" in done.stdout
    assert project.json("call", "web-1", "/")["body"] == "two"
    assert not can_connect(before["web-1"]["address"])

    project.write("web.js", "process.exit(3)")
    assert project.run("reload", "web").returncode == 1
    assert project.json("call", "web-1", "/")["body"] == "two"


LIVE = Path(__file__).parents[3] / "examples" / "shop" / "live" / "server.js"

# `shop/seawall.toml` asks for a token of its customers; here a key will do.
FOLLOWED = """
[gateway.auth.keys]
kind = "key"
[[gateway.auth.keys.keys]]
sha256 = "{hashed}"
subject = "c-1"
[[gateway.routes]]
path = "/live"
service = "live"
auth = "keys"
stream = true
[services.live]
command = ["node", "{program}"]
version = "1.0.0"
replicas = 2
"""


def test_streams_of_nodejs_end_cleanly_and_are_opened_again(project: Project) -> None:
    if shutil.which("node") is None:
        missing("node")
    hashed = hashlib.sha256(b"secret").hexdigest()
    project.declare(FOLLOWED.format(hashed=hashed, program=LIVE), gateways=1, registry="")
    project.up()
    event = {"order_id": "o-1", "customer": "c-1", "status": "placed", "sequence": 1, "at": 1.0}
    asyncio.run(_told(project, json.dumps(event)))
    key = ("-H", "x-api-key: secret")

    done = project.run(
        *("reload", "live", "--verify", *key),
        *("--stream", "/live/orders/o-1", "--path", "/live/nothing", "--json"),
    )

    assert done.returncode == 0, done.stdout + done.stderr + project.said()
    verified = json.loads(done.stdout.splitlines()[-1])
    (streams,) = verified["streams"]
    assert (streams["failed"], verified["failed"]) == (0, 0)
    assert streams["ended"] >= 10  # each was on one of the two
    assert streams["opened"] == streams["ended"] + 10

    unknown = project.run("reload", "live", "--verify", *key, "--stream", "/live/nothing")
    assert unknown.returncode == 1
    assert "status 404" in unknown.stderr


async def _told(project: Project, event: str) -> None:
    """Publish the news of an order as the shop does."""
    path = str(Layout(project.folder).valkey_socket)
    async with Redis(unix_socket_path=path) as valkey:
        await valkey.xadd("seawall:{order.moved}", {"data": event})


NEWS = """
import asyncio
from collections.abc import AsyncIterator
from fastapi.responses import StreamingResponse
from seawall import Service

service = Service("news")

@service.get("/news")
async def news() -> StreamingResponse:
    async def events() -> AsyncIterator[bytes]:
        while True:
            yield b"data: tick\\n\\n"
            await asyncio.sleep(0.1)
    return StreamingResponse(events(), media_type="text/event-stream")
"""


def test_event_streams_end_cleanly_when_their_process_leaves(project: Project) -> None:
    project.write("news.py", NEWS)
    declared = '[services.news]\nmodule = "news:service"\ndrain = 30.0\n'
    project.declare(route("news") + "stream = true\n" + declared, gateways=1, registry="")
    project.up()

    # It does not take the whole time to drain: `run` would give up.
    done = project.run("reload", "news", "--verify", "--stream", "/news")

    assert done.returncode == 0, done.stdout + done.stderr + project.said()
    assert "20 streams opened meanwhile, 10 ended cleanly, 0 failed" in done.stdout


CHAT = """
from fastapi import WebSocket
from seawall import Service

service = Service("chat")

@service.websocket("/chat")
async def chat(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
"""


def test_websockets_are_closed_with_a_word_and_opened_again(project: Project) -> None:
    project.write("chat.py", CHAT)
    declared = '[services.chat]\nmodule = "chat:service"\ndrain = 2.0\n'
    project.declare(route("chat") + declared, gateways=1, registry="")
    project.up()

    done = project.run("reload", "chat", "--verify", "--websocket", "/chat")

    assert done.returncode == 0, done.stdout + done.stderr + project.said()
    assert "20 streams opened meanwhile, 10 ended cleanly, 0 failed" in done.stdout


def test_only_the_service_whose_file_changed_is_reloaded(project: Project) -> None:
    for name in ("hello", "other"):
        project.write(f"{name}.py", SERVICE.format(version="1.0.0").replace("hello", name))
    other = '[services.other]\nmodule = "other:service"\n'
    project.declare('[services.hello]\nmodule = "hello:service"\n' + other)
    project.up("--watch")
    before = project.instances()

    project.write("hello.py", SERVICE.format(version="2.0.0"))

    pid = before["hello-1"]["pid"]
    eventually_sync(lambda: project.instances()["hello-1"]["pid"] not in (pid, None), within=15)
    after = project.instances()
    assert after["other-1"]["pid"] == before["other-1"]["pid"]
    assert "hello: hello.py changed; reloading" in project.said()
