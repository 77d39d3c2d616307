"""The image that `seawall deploy image --build` makes, by docker and by podman."""

from tests.containers.conftest import PRIVATE
from tests.support.containers import Engine, clean
from tests.support.waiting import eventually_sync


def test_who_runs_in_it_is_nobody_and_changes_nothing(engine: Engine, image: str) -> None:
    script = "id -u; seawall version; python -c 'import pip' 2>&1 | tail -1; touch /app/x 2>&1; :"
    needed = "python -c 'import asyncpg, lightkube'"  # a database, and a cluster's registry
    with clean(engine):
        told = engine.run("run", "--rm", image, "sh", "-c", f"{needed} && {{ {script}; }}")
    user, version, pip, write = told.splitlines()
    assert user == "10001"
    assert version.startswith("seawall ")
    assert "No module named 'pip'" in pip
    assert "Permission denied" in write


def test_what_is_private_is_not_in_it(engine: Engine, image: str) -> None:
    looked = " -o ".join(f"-path '/app/shop/{name}'" for name in ("seawall.toml", *PRIVATE))
    with clean(engine):
        told = engine.run("run", "--rm", image, "sh", "-c", f"find /app {looked}")
    assert told.split() == ["/app/shop/seawall.toml"]


def test_a_service_in_it_is_healthy_and_ends_well(engine: Engine, image: str) -> None:
    with clean(engine):
        name = engine.run(
            *("run", "--detach", "--workdir", "/app", "--read-only", "--tmpfs", "/tmp"),
            *("--env", "SEAWALL_DATABASE__URL=sqlite+aiosqlite:////tmp/catalog.db"),
            *(image, "seawall", "serve", "shop.catalog:service"),
        ).strip()
        eventually_sync(lambda: engine.is_healthy(name), within=60.0)
        engine.run("stop", "--time", "25", name)
        assert engine.inspect(name)["State"]["ExitCode"] == 0, engine.logs(name)
