"""Objects of KEDA, Istio, the Gateway API and cert-manager against the schemas of their projects.

The models come from npm, by exact versions and hashes, into build/; where there is no npm this is
left out. They know types and what is required, and say nothing of unknown keys.
"""

import copy
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from seawall.deploy.naming import Object
from seawall.deploy.target import Ingress, Mtls
from seawall.deploy.validate import is_custom
from tests.unit.deploy.projects import DECLARED, EVERYTHING, SCALED, flat, made, project

HERE = Path(__file__).parent / "custom_resources"
BUILD = Path(__file__).parents[3] / "build" / "test" / "custom-resources"
LOCK = "package-lock.json"

# Objects of a kind that the models have nothing of.
UNKNOWN = {"monitoring.coreos.com/v1"}

# The models are ECMAScript modules that older versions of Node.js do not take.
OLDEST = 20


def node() -> int:
    """The major version of Node.js that is here with npm; 0 if there is none."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return 0
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return int(told.stdout[1:].partition(".")[0])


pytestmark = [
    pytest.mark.skipif(node() < OLDEST, reason=f"no Node.js {OLDEST} with npm"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def models() -> Path:
    BUILD.mkdir(parents=True, exist_ok=True)
    ready = BUILD / "ready"
    if not ready.exists() or ready.read_text() != (HERE / LOCK).read_text():
        for name in ("package.json", LOCK):
            shutil.copy(HERE / name, BUILD / name)
        command = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=BUILD, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot fetch the models: {done.stderr.strip()}")
        shutil.copy(HERE / LOCK, ready)
    shutil.copy(HERE / "validate.mjs", BUILD / "validate.mjs")
    return BUILD


def faults(models: Path, objects: Sequence[Object]) -> list[str]:
    done = subprocess.run(
        ["node", "validate.mjs"],
        cwd=models,
        input=json.dumps(objects),
        capture_output=True,
        text=True,
        check=True,
    )
    said: list[str] = json.loads(done.stdout)
    return said


def custom(folder: Path, ingress: Ingress) -> list[Object]:
    objects = flat(made(project(folder, EVERYTHING), DECLARED, ingress=ingress))
    mtls = Mtls.NONE if ingress is Ingress.ISTIO else Mtls.CERT_MANAGER
    objects += flat(made(project(folder, SCALED), ingress=ingress, mtls=mtls))
    return [o for o in objects if is_custom(o) and o["apiVersion"] not in UNKNOWN]


def test_they_are_what_their_projects_take(models: Path, tmp_path: Path) -> None:
    istio, edge = (custom(tmp_path, each) for each in (Ingress.ISTIO, Ingress.GATEWAY_API))
    kinds = {o["kind"] for o in [*istio, *edge]}
    assert kinds == {
        *("ScaledObject", "TriggerAuthentication", "Gateway", "HTTPRoute", "VirtualService"),
        *("DestinationRule", "AuthorizationPolicy", "PeerAuthentication"),
        *("Issuer", "Certificate"),
    }
    assert faults(models, [*istio, *edge]) == []
    broken = copy.deepcopy([*istio, *(o for o in edge if "cert-manager" in o["apiVersion"])])
    for made_of in broken:
        made_of["spec"] = {"hosts": 1, "triggers": 1, "host": 1, "mtls": 1, "action": 1}
        made_of["spec"] |= {"servers": 1, "secretTargetRef": 1, "issuerRef": 1, "ca": 1}
    assert len(faults(models, broken)) == len(broken)  # so they do look
