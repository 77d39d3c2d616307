"""`seawall deploy` and `release` by the real kubectl, where it is installed.

The API server is as much of one as it needs: what is tested is what we ask kubectl for, and what we
make of what it says.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.cli.main import main
from tests.support.kubernetes_api import KubernetesApi
from tests.unit.cli.test_release import PROJECT

pytestmark = [
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
    pytest.mark.timeout(120),
]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    with KubernetesApi() as api:
        monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "config")))
        monkeypatch.setenv("HOME", str(tmp_path))  # where it keeps what it discovered
        monkeypatch.delenv("SEAWALL_PROFILE", raising=False)
        (tmp_path / "seawall.toml").write_text(PROJECT)
        yield api


def run(project: Path, *words: str) -> int:
    return main(["--project", str(project), *words])


def image(api: KubernetesApi, name: str = "web") -> str:
    spec = api.named("Deployment", name)["spec"]["template"]["spec"]
    return str(spec["containers"][0]["image"])


def release(project: Path, *words: str) -> int:
    quick = ("--no-build", "--observe", "0", "--every", "0.05", "--json")
    return run(project, "release", *quick, *words)


def test_a_release_and_the_way_back(
    api: KubernetesApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> dict[str, object]:
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    assert release(tmp_path) == 0
    first = told()
    assert first["outcome"] == "released"
    assert first["requests"] is None  # nobody could ask the gateway
    assert "Namespace/shop" in str(first["created"])

    assert release(tmp_path) == 0
    assert told()["outcome"] == "unchanged"  # what the server made of it is no difference

    api.unpullable.add("shop:2")
    assert release(tmp_path, "--image", "shop:2") == 1
    back = told()
    assert back["outcome"] == "restored"
    assert "ImagePullBackOff: there is no shop:2" in str(back["why"])
    assert back["created"] == []
    assert (image(api), image(api, "gateway")) == ("shop:1", "shop:1")


def test_applied_and_compared(
    api: KubernetesApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "deploy", "kubernetes", "--apply") == 0
    assert "deployment.apps/web created" in capsys.readouterr().out
    assert run(tmp_path, "deploy", "kubernetes", "--diff") == 0
    (tmp_path / "seawall.toml").write_text(PROJECT.replace("replicas = 2", "replicas = 4"))
    assert run(tmp_path, "deploy", "kubernetes", "--diff") == 1
    assert "+  replicas: 4" in capsys.readouterr().out


def test_a_server_that_is_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = KubernetesApi()
    monkeypatch.setenv("KUBECONFIG", str(gone.kubeconfig(tmp_path / "config")))
    gone.close()
    (tmp_path / "seawall.toml").write_text(PROJECT)
    assert release(tmp_path) == 1
    error = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert error["code"] == "Unavailable"  # and not that the cluster said no
