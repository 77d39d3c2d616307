import json
from pathlib import Path

import pytest

from seawall.cli.main import main

DECLARED = """
[gateway]
port = 9000
[gateway.auth.people]
kind = "jwt"
secret = "a very secret secret of 32 bytes!"
[registry]
url = "redis://user:hunter2@example.com:6379/0"
[services.orders]
command = ["sleep", "1"]
env = { PAYMENT_TOKEN = "t0ken" }
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "seawall.toml").write_text(DECLARED)
    monkeypatch.delenv("SEAWALL_PROFILE", raising=False)
    return tmp_path


def test_values_are_shown_with_their_origin(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEAWALL_GATEWAY__REPLICAS", "2")
    assert main(["--project", str(project), "config", "show", "--origin"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "gateway.port = 9000  # seawall.toml" in shown
    assert "gateway.replicas = 2  # SEAWALL_GATEWAY__REPLICAS" in shown
    assert 'gateway.host = "127.0.0.1"  # default' in shown


def test_secrets_are_never_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--json"], ["--origin"]):
        assert main(["--project", str(project), "config", "show", *more]) == 0
    shown = capsys.readouterr().out
    for secret in ("a very secret", "hunter2", "t0ken"):
        assert secret not in shown
    assert "redis://***@example.com:6379/0" in shown


def test_a_check_says_yes_or_what_is_wrong(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--project", str(project), "config", "check"]) == 0
    (project / "seawall.toml").write_text("[gateway]\nprot = 1\n")
    assert main(["--project", str(project), "config", "check", "--json"]) == 2
    told = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert "did you mean 'port'" in told["message"]


def test_no_project_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--project", str(tmp_path), "config", "check"]) == 2
    assert "--project" in capsys.readouterr().err
