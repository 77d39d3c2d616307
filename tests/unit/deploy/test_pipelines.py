"""Pipelines are what their hosts read, and run commands that there are."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from seawall.cli.main import main
from seawall.deploy.pipelines import KINDS, github, gitlab
from tests.unit.deploy.projects import project


@pytest.fixture(params=KINDS)
def text(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    _, made = KINDS[request.param]
    return made(project(tmp_path), "cluster")


def scripts(made: Any) -> Iterator[str]:
    """Every line of shell in it."""
    if isinstance(made, dict):
        for key, value in made.items():
            if key == "run":
                yield from value.splitlines()
            elif key in ("script", "before_script"):
                yield from value
            else:
                yield from scripts(value)
    elif isinstance(made, list):
        for each in made:
            yield from scripts(each)


def test_its_shell_is_shell(text: str) -> None:
    for line in scripts(yaml.safe_load(text)):
        subprocess.run(["sh", "-n", "-c", line], check=True)


def test_its_commands_are_ours(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [shlex.split(line) for line in scripts(yaml.safe_load(text)) if "seawall" in line]
    assert [words[1:2] for words in lines] in ([["deploy"], ["release"]],)
    for program, *words in lines:
        assert program == ".venv/bin/seawall"
        with pytest.raises(SystemExit) as left:
            main([*words, "--help"])
        assert left.value.code == 0


def test_no_secret_is_in_it_and_no_host(text: str) -> None:
    lowered = text.lower()
    assert "://" not in lowered.replace("tcp://docker:2376", "")
    for line in lowered.splitlines():
        if "password" in line and not line.startswith("#"):
            assert "secrets." in line or "$" in line


def test_a_release_is_of_one_branch_at_a_time_and_not_cancelled(tmp_path: Path) -> None:
    spec = project(tmp_path)
    job = yaml.safe_load(github(spec, None))["jobs"]["release"]
    assert job["concurrency"] == {"group": "release", "cancel-in-progress": False}
    assert (job["needs"], job["environment"]) == ("check", "production")
    other = yaml.safe_load(gitlab(spec, None))["release"]
    assert (other["resource_group"], other["interruptible"]) == ("production", False)
    assert other["rules"] == [{"if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"}]


def test_it_is_written_where_its_host_looks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project(tmp_path)
    words = ["--project", str(tmp_path), "deploy", "pipeline"]
    assert main([*words, "github", "--out", str(tmp_path)]) == 0
    assert (tmp_path / ".github/workflows/release.yml").exists()
    assert main([*words, "github", "--out", str(tmp_path), "--diff"]) == 0
    assert main([*words, "gitlab"]) == 0
    assert "stages:" in capsys.readouterr().out
    assert main(words) == 2
    assert "github or gitlab" in capsys.readouterr().err
    assert main([*words[:3], "check", "github"]) == 2
