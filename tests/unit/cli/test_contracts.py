"""`seawall contracts`: from declarations, from files, and from the source at a git ref."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.cli.main import main

PROJECT = """
[services.orders]
module = "{name}_orders:service"

[services.mail]
module = "{name}_mail:service"

[services.live]
command = ["node", "live.js"]
"""
ORDERS = """
from seawall import Event, Service

class Placed(Event, topic="order.placed"):
    order_id: str
    {email}

service = Service("orders", version="{version}")
service.publishes(Placed)
"""
MAIL = """
from seawall import Event, Service

class Placed(Event, topic="order.placed"):
    email: str

service = Service("mail", version="1.4.0")

@service.on(Placed)
async def placed(event: Placed) -> None: ...
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project whose `orders` has dropped a field since the commit `main`."""
    name = f"p{abs(hash(str(tmp_path)))}"  # modules of one process have different names
    before = list(sys.path)  # the command puts the project's folder in front
    (tmp_path / "seawall.toml").write_text(PROJECT.format(name=name))
    (tmp_path / f"{name}_mail.py").write_text(MAIL)
    orders = tmp_path / f"{name}_orders.py"
    orders.write_text(ORDERS.format(version="1.0.0", email="email: str"))
    for command in ("init -q -b main", "add .", "commit -q -m first"):
        who = ("-c", "user.name=n", "-c", "user.email=e@localhost")
        subprocess.run(["git", *who, *command.split()], cwd=tmp_path, check=True)
    orders.write_text(ORDERS.format(version="2.0.0", email=""))
    yield tmp_path
    sys.path[:] = before


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> "Run":
    return Run(project, capsys)


class Run:
    def __init__(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._project = project
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        status = main(["--project", str(self._project), "contracts", *arguments])
        told = self._capsys.readouterr()
        return status, told.out, told.err


def test_what_a_step_breaks_is_told_with_whom_and_how_to_fix_it(run: Run) -> None:
    status, out, _ = run("diff", "main")
    assert status == 1
    assert "breaking  order.placed: email  field-missing, forward" in out
    assert "by:     orders 2.0.0" in out
    assert "mail 1.4.0; whoever reads it as orders 1.0.0 wrote it" in out
    assert "fix:    write it until no version that needs it runs any more" in out
    assert out.endswith("1 breaking, 0 warnings\n")


def test_contracts_are_exported_compared_and_checked(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    status, _, err = run("export", "--out", str(folder))
    assert (status, sorted(file.name for file in folder.iterdir())) == (
        0,
        ["mail.json", "orders.json"],
    )
    assert "2 contracts in" in err
    assert run("diff", str(folder))[0] == 0
    (tmp_path / "all.json").write_text(run("export")[1])
    assert run("diff", str(folder), str(tmp_path / "all.json"))[0] == 0
    status, out, _ = run("--json", "check")
    told = json.loads(out)
    assert (status, told["schema"], told["breaking"]) == (1, "seawall.contracts/1", 1)
    (finding,) = told["findings"]
    assert (finding["at"], finding["breaks"]) == ("email", ["mail 1.4.0"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("diff",), "diff needs a version to compare with"),
        (("diff", "no-such-ref"), "no-such-ref is no file, no folder and no git ref"),
        (("diff", "."), "holds no contracts"),
    ],
)
def test_what_cannot_be_compared(
    run: Run,
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = run(*arguments)
    assert (status, message in err) == (2, True)
    assert "fix: " in err
