import json
from pathlib import Path

import pytest

from seawall.cli.main import main

DECLARED = """
[gateway]
port = 8123
[services.orders]
command = ["sleep", "1"]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "seawall.toml").write_text(DECLARED)
    monkeypatch.delenv("SEAWALL_PROFILE", raising=False)
    return str(tmp_path)


def test_a_configuration_is_data_and_the_rest_is_told(
    project: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--project", project, "gateway", "export", "--to", "nginx"]) == 0
    told = capsys.readouterr()
    assert "server 127.0.0.1:8123" in told.out
    assert 'trusted_proxies = ["127.0.0.0/8"]' in told.err


def test_it_is_written_to_a_file(
    project: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "haproxy.cfg"
    words = ["gateway", "export", "--to", "haproxy", "--out", str(out), "--listen", "[::]:81"]
    assert main(["--project", project, *words]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert f"haproxy -c -f {out}" in told.err
    assert "bind [::]:81" in out.read_text()
    words[5] = str(tmp_path / "no" / "such" / "folder")
    assert main(["--project", project, *words]) == 1
    assert "was not written" in capsys.readouterr().err


def test_programs_read_it_as_json(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["gateway", "export", "--to", "envoy", "--gateway", "a:1", "--gateway", "b:2"]
    assert main(["--json", "--project", project, *words]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema"], answer["to"]) == ("seawall.gateway-export/1", "envoy")
    assert '"b", port_value: 2' in answer["config"]
    assert answer["trusted_proxies"] == ["ADDRESS OF THE EDGE"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--to", "nginx", "--gateway", "a;b:1"],
        ["--to", "nginx", "--tls-cert", "a b.pem"],
        ["--to", "nginx", "--listen", "80"],
        ["--to", "haproxy", "--tls-cert", "a.pem", "--tls-key", "b.pem"],
    ],
)
def test_wrong_words_touch_nothing(
    words: list[str], project: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["--project", project, "gateway", "export", *words, "--out", str(out)]) == 2
    assert "fix:" in capsys.readouterr().err or "a;b" in words[-1]
    assert not out.exists()
