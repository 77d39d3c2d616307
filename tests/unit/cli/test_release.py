"""`seawall release` with a stand-in for kubectl and for docker, as processes."""

import json
import os
from pathlib import Path

import pytest

from seawall.cli.main import main
from tests.support.kubectl import Stand, installed

PROJECT = """
[project]
name = "shop"
[messages]
url = "redis://valkey:6379/0"
[deploy]
image = "shop:1"
[[gateway.routes]]
path = "/"
service = "web"
[services.web]
command = ["web"]
replicas = 2
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "seawall.toml").write_text(PROJECT)
    monkeypatch.delenv("SEAWALL_PROFILE", raising=False)
    return folder


@pytest.fixture
def cluster(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    stand = installed(tmp_path / "bin", tmp_path / "state")
    docker = tmp_path / "bin" / "docker"
    docker.write_text(f'#!/bin/sh\n[ "$1" = info ] || echo "$1 $2 $3" >> {tmp_path}/docker\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return stand


def release(project: Path, *words: str) -> int:
    quick = ("--observe", "0.1", "--every", "0.01", "--timeout", "60")
    return main(["--project", str(project), "release", *quick, *words])


def image(cluster: Stand, name: str = "web") -> str:
    made = cluster.object("Deployment", name)
    assert made is not None
    return str(made["spec"]["template"]["spec"]["containers"][0]["image"])


def test_built_pushed_applied_and_watched(
    project: Path, cluster: Stand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(project, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["image"], told["ok"]) == ("released", "shop:1", True)
    assert told["requests"] >= 100
    assert (tmp_path / "docker").read_text() == "build --tag shop:1\npush shop:1 \n"
    assert cluster.calls == ["apply"]  # of a namespace that is not there nothing is compared
    assert image(cluster) == "shop:1"

    assert release(project, "--no-build", "--json") == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "unchanged"
    assert cluster.calls == ["apply", "diff"]


def test_an_image_that_cannot_be_pulled_is_taken_back(
    project: Path, cluster: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(project, "--no-build") == 0
    cluster.scene(unpullable=["shop:2"])
    capsys.readouterr()
    assert release(project, "--no-build", "--image", "shop:2") == 1
    told = capsys.readouterr()
    assert "restored: " in told.out
    assert "ImagePullBackOff: no such image" in told.out
    assert "+ Deployment/web" in told.err  # what is changed is said before it is
    assert "restoring" in told.err
    assert image(cluster) == "shop:1"
    assert cluster.calls == ["apply", "diff", "apply", "apply"]


def test_requests_that_fail_are_a_reason_to_go_back(
    project: Path, cluster: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(project, "--no-build") == 0
    cluster.scene(failing=["shop:2"])
    capsys.readouterr()
    words = ("--no-build", "--image", "shop:2", "--observe", "60", "--json")
    assert release(project, *words) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["outcome"] == "restored"
    assert "requests failed" in told["why"]
    assert image(cluster, "gateway") == "shop:1"
    # The same is taken with a budget that allows it.
    assert release(project, "--no-build", "--image", "shop:2", "--error-budget", "100") == 0
    assert image(cluster, "gateway") == "shop:2"


def test_what_does_not_fit_is_not_even_built(
    project: Path, cluster: Stand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (project / "seawall.toml").open("a") as file:
        file.write("deploy = { cpu = 2, cpu_limit = 1 }\n")
    assert release(project) == 1
    assert "nothing was released" in capsys.readouterr().err
    assert not (tmp_path / "docker").exists()
    assert cluster.calls == []


def test_a_cluster_that_is_away_is_told_before_anything_changes(
    project: Path, cluster: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.scene(away=True)
    assert release(project, "--no-build") != 0
    assert "Unable to connect" in capsys.readouterr().err
    assert cluster.calls == []


def test_numbers_that_mean_nothing_are_refused(
    project: Path, cluster: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release(project, "--error-budget", "101") == 2
    assert "--error-budget is between 0 and 100" in capsys.readouterr().err
