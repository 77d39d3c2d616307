"""New code for a part of the requests, with real processes: the good stays, the bad goes."""

import subprocess
import threading
from collections import Counter

import httpx2

from tests.integration.runtime.conftest import SEAWALL, Project
from tests.support.waiting import eventually_sync

SHOP = """
from fastapi import HTTPException
from seawall import Service

service = Service("shop", version="{version}")


@service.get("/")
async def look() -> str:
    {work}
"""

DECLARED = """
[services.shop]
module = "shop:service"
replicas = 2
drain = 2.0
[[gateway.routes]]
path = "/"
service = "shop"
"""


class Customers:
    """Some who ask the gateway all the while, each time as somebody new."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]
        self.seen: Counter[tuple[int, str]] = Counter()

    def _ask(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=20) as client:
            while not self._over.wait(0.005):
                answer = client.get("/")
                client.cookies.clear()
                self.seen[answer.status_code, answer.text] += 1

    def failed(self) -> int:
        return sum(n for (status, _), n in list(self.seen.items()) if status >= 500)

    def fails_no_more(self) -> bool:
        """Of a hundred requests none, after those that were under way."""
        before = self.seen.total()
        eventually_sync(lambda: self.seen.total() > before + 50)
        failed = self.failed()
        eventually_sync(lambda: self.seen.total() > before + 150)
        return self.failed() == failed

    def __enter__(self) -> "Customers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def up(project: Project) -> str:
    project.write("shop.py", SHOP.format(version="1.0.0", work="return 'old'"))
    project.declare(DECLARED, gateways=1, registry="")
    project.up()
    return str(project.json("ps")["url"])


def tried(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*SEAWALL, "canary", "shop", *arguments]
    return subprocess.run(
        command, cwd=project.folder, capture_output=True, text=True, check=False, timeout=60
    )


def test_good_code_is_promoted_and_nobody_notices(project: Project) -> None:
    with Customers(up(project)) as customers:
        eventually_sync(lambda: customers.seen[200, '"old"'] > 20)
        project.write("shop.py", SHOP.format(version="1.1.0", work="return 'new'"))
        done = tried(project, "--weight", "50%", "--for", "3s")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "shop 1.1.0-canary: watching, 50.0% of the requests" in done.stdout
        assert "promoted" in done.stdout
        old = customers.seen[200, '"old"']
        before = customers.seen[200, '"new"']
        assert before > 20
        eventually_sync(lambda: customers.seen[200, '"new"'] > before + 50)
        assert customers.seen[200, '"old"'] <= old + len(customers._threads)
    assert {status for status, _ in customers.seen} == {200}
    rows = project.instances()
    assert {name: rows[name]["version"] for name in rows if "shop" in name} == {
        "shop-1": "1.1.0",
        "shop-2": "1.1.0",
    }
    assert "shop 1.1.0-canary was promoted" in project.said()


def test_bad_code_goes_by_itself_and_fails_no_more_than_its_share(project: Project) -> None:
    with Customers(up(project)) as customers:
        eventually_sync(lambda: customers.seen[200, '"old"'] > 20)
        bad = SHOP.format(version="1.1.0", work="raise HTTPException(500)")
        project.write("shop.py", bad)

        before = customers.seen.total()
        done = tried(project, "--weight", "10%", "--for", "60s")
        assert done.returncode != 0
        assert "requests failed" in done.stderr
        assert "goes on with the code from before" in done.stderr
        failed = customers.failed()
        asked = customers.seen.total() - before
        assert 0 < failed <= 0.25 * asked + 10  # a tenth, and by how much that may differ by chance
        assert customers.fails_no_more()

        done = project.run("reload", "shop")
        assert done.returncode != 0
        assert "does worse than before" in done.stderr
        assert "all processes run the code from before" in done.stderr
        assert customers.failed() > failed
        assert customers.fails_no_more()

    rows = project.instances()
    assert {rows[name]["version"] for name in rows if "shop" in name} == {"1.0.0"}
    assert not any("canary" in name for name in rows)

    project.write("shop.py", "raise RuntimeError('not today')")
    done = tried(project)
    assert done.returncode != 0
    assert "did not become ready" in done.stderr
    assert "not today" in done.stderr
    assert "no part of the requests" in tried(project, "--weight", "110%").stderr
    assert "there is no service" in project.run("canary", "shoe").stderr
    assert project.ready("shop-1", "shop-2")
