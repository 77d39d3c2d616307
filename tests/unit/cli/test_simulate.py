import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seawall.cli.main import main

TRACE = "minute,requests\n" + "".join(f"{minute},{4200}\n" for minute in range(10))


def test_strategies_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "day.csv"
    trace.write_text(TRACE)
    command = ["scale", "simulate", "--trace", str(trace), "--policy", "hpa-cpu,fixed"]
    assert main(command) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "day.csv, 10 m 0 s"
    assert shown[1].split()[:4] == ["STRATEGY", "HOURS", "SHORT", "EXTRA"]
    assert [line.split()[0] for line in shown[2:4]] == ["hpa-cpu", "fixed"]


def test_machines_get_json_and_pages_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "step.svg"
    command = ["scale", "simulate", "--json", "--policy", "keda,fixed", "--seconds", "120"]
    assert main([*command, "--svg", str(picture)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "seawall.simulation/1"
    assert told["runs"]["fixed"]["shed"] == 0
    assert told["runs"]["keda"]["shed"] > 0
    assert picture.read_text().startswith("<svg ")


def test_a_load_that_one_replica_bears_compares_nothing_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "day.csv"
    trace.write_text("minute,requests\n0,60\n1,120\n")
    command = ["scale", "simulate", "--trace", str(trace), "--policy", "fixed,surge"]
    assert main(command) == 0
    assert "--scale multiplies" in capsys.readouterr().out
    assert main([*command, "--scale", "1000"]) == 0
    assert "--scale" not in capsys.readouterr().out


def test_a_part_of_a_file_may_be_multiplied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "day.csv"
    trace.write_text(TRACE)
    part = ["--from", "120", "--seconds", "60", "--scale", "2"]
    command = ["scale", "simulate", "--json", "--trace", str(trace), "--policy", "fixed", *part]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["seconds"] == 60
    assert told["runs"]["fixed"]["peak"] == 2


def folder_of_traces(tmp_path: Path) -> Path:
    """Three services; one is idle, and one's day is shorter."""
    folder = tmp_path / "day"
    folder.mkdir()
    rows = {"orders": [6000] * 4, "users": [0] * 4, "live": [600, 60_000]}
    for name, counts in rows.items():
        told = "".join(f"{minute},{count}\n" for minute, count in enumerate(counts))
        (folder / f"{name}.csv").write_text(f"minute,requests\n{told}")
    (folder / "README").write_text("no trace")
    return folder


def test_a_folder_of_traces_is_so_many_services(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, picture = tmp_path / "day.html", tmp_path / "day.svg"
    command = ["scale", "simulate", "--trace", str(folder_of_traces(tmp_path))]
    assert main([*command, "--html", str(page), "--svg", str(picture)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "3 services, 4 m 0 s"
    assert shown[1].endswith("SHORT MOST")
    assert [line.split()[0] for line in shown[2:]] == [
        *("hpa-cpu", "hpa-rps", "keda", "kpa", "tracking", "surge")
    ]
    assert all("  live " in line for line in shown[2:])
    assert page.read_text().count("<figure>") == 6
    assert "short the most: live " in page.read_text()
    assert picture.read_text().startswith("<svg ")


def test_programs_are_told_of_each_service_and_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of_traces(tmp_path)
    command = ["scale", "simulate", "--json", "--policy", "surge,fixed", "--seed", "3"]

    def told(*traces: Path) -> dict[str, Any]:
        given = [word for trace in traces for word in ("--trace", str(trace))]
        assert main([*command, *given]) == 0
        return dict(json.loads(capsys.readouterr().out))

    together = told(folder)
    assert together["schema"] == "seawall.simulations/1"
    assert {name: s["seconds"] for name, s in together["services"].items()} == {
        "live": 120.0,
        "orders": 240.0,
        "users": 240.0,
    }
    each = [service["runs"]["surge"] for service in together["services"].values()]
    every = together["runs"]["surge"]
    assert every["hours"] == pytest.approx(sum(score["hours"] for score in each), abs=1e-5)
    assert every["peak"] == max(score["peak"] for score in each)
    live = together["services"]["live"]["runs"]
    assert live["surge"]["shed"] > live["fixed"]["shed"] == 0
    assert live["fixed"]["peak"] == 15
    assert told(folder) == together
    assert told(*sorted(folder.glob("*.csv"))) == together


def test_files_of_one_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / day / "orders.csv" for day in ("monday", "tuesday")]
    command = ["scale", "simulate", "--json", "--policy", "keda"]
    for file in files:
        file.parent.mkdir()
        file.write_text(TRACE)
        command += ["--trace", str(file)]
    assert main(command) == 0
    assert list(json.loads(capsys.readouterr().out)["services"]) == [str(file) for file in files]


def test_without_numpy_it_says_what_to_do(tmp_path: Path) -> None:
    """In a process of its own, where the module cannot be imported."""
    folder = folder_of_traces(tmp_path)
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from seawall.cli.main import main\n"
        "command = ['scale', 'simulate', '--policy', 'keda', '--trace']\n"
        f"assert main([*command, {str(folder / 'orders.csv')!r}]) == 0\n"
        f"sys.exit(main([*command, {str(folder)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: several services cannot be simulated at once",
        "  why: they are played in arrays, and NumPy is not installed",
        "  fix: pip install 'seawall[simulate]', or one --trace at a time",
    ]


def test_a_folder_without_traces_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scale", "simulate", "--trace", str(tmp_path)]) == 2
    assert "has no trace in it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--policy", "magic"], "no strategy 'magic'"),
        (["--trace", "nowhere.csv"], "cannot be read"),
        (["--capacity", "0"], "capacity 0.0"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scale", "simulate", *arguments]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("said", ["nan", "inf", "-1", "much"])
def test_an_amount_is_a_number_that_is_not_negative(said: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(["scale", "simulate", f"--factor={said}"])
    assert left.value.code == 2


def test_scale_itself_is_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", "orders"]) == 2
    assert "does not say how many" in capsys.readouterr().err
