import json
from pathlib import Path

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
    assert [line.split()[0] for line in shown[2:]] == ["hpa-cpu", "fixed"]


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
