import json
import os
from pathlib import Path

import pytest
import yaml

from seawall.cli.main import main

PROJECT = """
[project]
name = "shop"
[messages]
url = "redis://valkey:6379/0"
[[gateway.routes]]
path = "/"
service = "web"
[services.web]
command = ["web"]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "seawall.toml").write_text(PROJECT)
    monkeypatch.delenv("SEAWALL_PROFILE", raising=False)
    return folder


def deploy(project: Path, *words: str) -> int:
    return main(["--project", str(project), "deploy", *words])


def program(
    folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, name: str = "kubectl"
) -> None:
    """A program of that name which does what `script` says, the only one there is."""
    folder.mkdir()
    file = folder / name
    file.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_objects_are_printed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(project, "kubernetes") == 0
    kinds = [o["kind"] for o in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds[0] == "Namespace"
    assert kinds.count("Deployment") == 2
    assert deploy(project, "kubernetes", "--json", "--ingress", "gateway-api") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "seawall.deploy/1"
    assert [o["kind"] for o in told["files"]["edge.yaml"]] == ["Gateway", "HTTPRoute"]


def test_files_are_written_compared_and_cleared_away(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (project / "seawall.prod.toml").write_text("[services.web]\nreplicas = 3\n")
    write = ("kubernetes", "--out", str(out))
    assert deploy(project, *write) == 0
    overlay = (out / "overlays/prod/kustomization.yaml").read_text()
    assert "value: 3" in overlay
    assert deploy(project, *write, "--diff") == 0
    (out / "mine.yaml").write_text("kind: Secret\n")
    (project / "seawall.prod.toml").unlink()
    (project / "seawall.toml").write_text(
        PROJECT.replace("services.web", "services.shop").replace('"web"\n[', '"shop"\n[')
    )
    capsys.readouterr()
    assert deploy(project, *write, "--diff") == 1
    assert "+++ base/shop.yaml" in capsys.readouterr().out
    assert deploy(project, *write, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["removed"] == [
        "base/web.yaml",
        "overlays/prod/added.yaml",
        "overlays/prod/kustomization.yaml",
    ]
    assert (out / "mine.yaml").exists()  # others' files stay


def test_what_fits_and_what_does_not(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(project, "check") == 0
    with (project / "seawall.toml").open("a") as file:
        file.write("deploy = { cpu = 2, cpu_limit = 1 }\n")
    assert deploy(project, "check", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    (finding,) = told["findings"]
    assert finding["where"] == "Deployment/web"
    assert finding["fix"] == "raise cpu_limit, or lower cpu"
    assert deploy(project, "check") == 1
    assert "why: the API server refuses the pod" in capsys.readouterr().out


def test_a_version_that_nobody_knows(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(project, "kubernetes", "--kube-version", "1.99") == 2
    assert "fix: 1.20 to" in capsys.readouterr().err


def test_kubectl_gets_the_objects(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program(tmp_path / "bin", monkeypatch, f'echo "$@" > {tmp_path}/said; grep kind: | head -1')
    assert deploy(project, "kubernetes", "--apply") == 0
    assert capsys.readouterr().out == "kind: Namespace\n"
    assert (tmp_path / "said").read_text() == "apply -f -\n"


def test_kubectl_says_no(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = "cat >/dev/null; echo Unauthorized >&2; exit 3"
    program(tmp_path / "bin", monkeypatch, script)
    assert deploy(project, "kubernetes", "--diff") == 1
    told = capsys.readouterr().err
    assert "kubectl diff failed with status 3" in told
    assert "why: Unauthorized" in told


def test_without_kubectl_it_is_said(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'empty'}{os.pathsep}")
    assert deploy(project, "kubernetes", "--apply") == 1
    assert "there is no kubectl here" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["image", "compose", "systemd", "procfile"])
def test_other_targets(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    assert deploy(project, what) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# Made by `seawall deploy")
    (tmp_path / "out").mkdir()
    assert deploy(project, what, "--out", str(tmp_path / "out")) == 0
    assert printed in [file.read_text() for file in (tmp_path / "out").iterdir()]
    assert deploy(project, what, "--out", str(tmp_path / "out"), "--diff") == 0


def test_an_image_is_built(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program(tmp_path / "bin", monkeypatch, f'echo "$@" > {tmp_path}/said', "podman")
    assert deploy(project, "image", "--build", "--json") == 0
    assert json.loads(capsys.readouterr().out)["image"] == "shop:latest"
    assert (tmp_path / "said").read_text() == f"build --format docker --tag shop:latest {project}\n"
    assert "**/.seawall" in (project / ".dockerignore").read_text()
    (project / "Dockerfile").write_text("FROM mine\n")
    assert deploy(project, "image", "--build") == 6  # a person's file stays
    assert (project / "Dockerfile").read_text() == "FROM mine\n"


def test_a_builder_that_cannot_work_is_passed_over(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs = tmp_path / "bin"
    program(programs, monkeypatch, "echo no daemon >&2; exit 1", "docker")
    assert deploy(project, "image", "--build") == 1
    told = capsys.readouterr().err
    assert "docker cannot build here" in told
    assert "docker info: no daemon" in told
    (programs / "podman").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n')
    (programs / "podman").chmod(0o755)
    monkeypatch.setenv("PIP_INDEX_URL", "https://somebody:secret@packages.example/simple")
    assert deploy(project, "image", "--build", "--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["builder"] == "podman"
    assert "--build-arg PIP_INDEX_URL --tag" in (tmp_path / "said").read_text()
    assert "secret" not in told.err
    assert deploy(project, "image", "--builder", "docker") == 1  # that one and no other


def test_without_a_builder_it_is_said(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert deploy(project, "image", "--build") == 1
    assert "neither docker nor podman" in capsys.readouterr().err
