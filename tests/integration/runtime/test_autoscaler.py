"""The autoscaler with real processes, by a figure that they tell themselves."""

import socket
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

from tests.integration.runtime.conftest import Project
from tests.support.waiting import eventually_sync

# Tells how many orders are open, as the file says; where there is none, nobody knows.
TELLING = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"ok"
        if self.path == "/metrics":
            known = Path("open").exists()
            body = f"orders_open {Path('open').read_text()}\\n".encode() if known else b""
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
HTTPServer.allow_reuse_address = True
HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""

DECLARED = f"""
[services.web]
command = ["{sys.executable}", "telling.py"]
replicas = {{ min = 1, max = 3 }}
[[services.web.scale]]
metric = "orders_open"
across = "max"
target = 10
window = 1.0
"""


def test_replicas_follow_a_declared_metric_and_a_person_comes_first(project: Project) -> None:
    project.write("telling.py", TELLING)
    project.write("open", "5")
    project.declare(DECLARED)
    project.up()
    assert set(project.instances()) == {"web-1"}

    project.write("open", "28")
    eventually_sync(lambda: project.ready("web-1", "web-2", "web-3"))
    told = project.json("scale", "explain", "web")
    change = told["changes"][-1]
    assert (change["was"], change["desired"], change["metrics"]) == (1, 3, {"orders_open": 28.0})
    assert "28" in change["reason"]
    assert "web: 1 -> 3 replicas" in project.said()

    (project.folder / "open").unlink()  # nobody knows: nothing scales in
    eventually_sync(
        lambda: project.json("scale", "explain", "web")["decisions"][-1]["limits"] == ["NoData"]
    )
    assert project.ready("web-1", "web-2", "web-3")

    assert project.run("scale", "web=2").stdout.strip() == "web: 3 -> 2"
    told = project.json("scale", "explain", "web")
    assert (told["mode"], told["replicas"]) == ("by hand", 2)
    shown = project.run("scale", "explain", "web").stdout
    assert "seawall scale web=auto" in shown
    assert "orders_open ?" in shown

    project.write("open", "1")
    assert "by itself" in project.run("scale", "web=auto").stdout
    eventually_sync(lambda: len(project.instances()) == 1)
    assert project.json("scale", "explain", "web")["changes"][-1]["desired"] == 1


def test_who_does_not_scale_by_itself_says_how_to_declare_it(project: Project) -> None:
    project.declare(project.service("web"))
    project.up()
    for command in (("scale", "explain", "web"), ("scale", "web=auto")):
        done = project.run(*command)
        assert done.returncode != 0
        assert "[[services.web.scale]]" in done.stderr
    assert "there is no service 'wob'" in project.run("scale", "explain", "wob").stderr


DOOR = """
from seawall import Service

service = Service("door")


@service.post("/letters/{number}", status_code=202)
async def post(number: int) -> None:
    await service.send("letters", {"number": number})
"""

MAILER = """
from pathlib import Path

from seawall import Service

service = Service("mailer")


@service.worker("letters")
async def send(letter: dict[str, int]) -> None:
    with Path("sent").open("a") as file:
        file.write(f"{letter['number']}\\n")
"""

SLEEPING = """
[services.door]
module = "door:service"
[services.mailer]
module = "mailer:service"
replicas = { min = 0, max = 1 }
[[services.mailer.scale]]
metric = "queue"
topic = "letters"
target = 10
window = 1.0
[[gateway.routes]]
path = "/"
service = "door"
"""


def test_a_consumer_sleeps_is_woken_by_a_message_and_loses_none(project: Project) -> None:
    project.write("door.py", DOOR)
    project.write("mailer.py", MAILER)
    project.declare(SLEEPING, gateways=1, registry="")
    project.up()
    sent = project.folder / "sent"

    def post(number: int) -> None:
        assert project.run("call", "door", "POST", f"/letters/{number}").returncode == 0

    for turn in range(2):
        eventually_sync(lambda: not any("mailer" in name for name in project.instances()))
        post(turn)
        eventually_sync(
            lambda turn=turn: sent.exists() and str(turn) in sent.read_text().split(), within=15
        )
    assert sent.read_text().split() == ["0", "1"]
    changes = project.json("scale", "explain", "mailer")["changes"]
    assert [change["desired"] for change in changes][:3] == [0, 1, 0]


TILL = """
import asyncio
from seawall import Service

service = Service("till")


@service.get("/look")
async def look() -> str:
    await asyncio.sleep(0.05)
    return "done"
"""

OVERLOADED = """
[services.till]
module = "till:service"
replicas = { min = 1, max = 2 }
[services.till.admission]
kind = "fixed"
initial = 4
queue = 0
[[services.till.scale]]
target = 100000
"""


def test_what_a_service_refuses_is_offered_load_and_is_shown(project: Project) -> None:
    project.write("till.py", TILL)
    project.declare(OVERLOADED)
    project.up()
    address = project.instances()["till-1"]["address"]
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with suppress(urllib.error.HTTPError):
                urllib.request.urlopen(f"http://{address}/look", timeout=10).close()

    def shown() -> bool:
        looks = project.json("scale", "explain", "till")["decisions"]
        row = next(r for r in project.status()["services"] if r["service"] == "till")
        told = [look for look in looks if look["shed"]]
        return bool(told and row["shed"]) and told[-1]["metrics"]["requests"] > told[-1]["shed"]

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for one in asking:
        one.start()
    try:
        eventually_sync(shown, within=20)
        assert "till refuses" in project.run("ps").stdout
    finally:
        over.set()
        for one in asking:
            one.join()


WEB = """
from seawall import Service

service = Service("web", version="3.1.0")


@service.get("/")
async def hello() -> str:
    return "hello"
"""

DROWSY = """
[services.web]
module = "web:service"
replicas = { min = 0, max = 2 }
drain = 1.0
[[services.web.scale]]
metric = "requests"
target = 1000
window = 1.0
[[gateway.routes]]
path = "/"
service = "web"
"""


def test_a_service_sleeps_is_woken_by_a_request_and_loses_none(project: Project) -> None:
    project.write("web.py", WEB)
    project.declare(DROWSY, gateways=1, registry="")
    project.up()
    gateway = urlsplit(project.status()["url"])

    def ask(_: int) -> bytes:
        with socket.create_connection((gateway.hostname or "", gateway.port or 0), 20) as asking:
            asking.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
            answer = b""
            while chunk := asking.recv(65536):
                answer += chunk
        return answer.split(b"\r\n", 1)[0]

    with ThreadPoolExecutor(20) as crowd:
        for turn in range(2):
            eventually_sync(lambda: "web-1" not in project.instances(), within=15)
            answers = list(crowd.map(ask, range(20)))
            assert set(answers) == {b"HTTP/1.1 200 OK"}, (turn, answers, project.said())
    changes = project.json("scale", "explain", "web")["changes"]
    assert [change["desired"] for change in changes][:4] == [0, 1, 0, 1]
    assert "somebody came while it slept" in changes[1]["reason"]

    # A person's word: nobody wakes what a person has stopped.
    assert project.run("scale", "web=0").returncode == 0
    eventually_sync(lambda: ask(0) == b"HTTP/1.1 503 Service Unavailable")
    assert project.run("scale", "web=1").returncode == 0
    eventually_sync(lambda: ask(0) == b"HTTP/1.1 200 OK")
