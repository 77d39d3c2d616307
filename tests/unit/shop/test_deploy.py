"""The shop's objects, as they are kept in examples/shop/deploy: to be read, and to be compared."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOP = Path(__file__).parents[3] / "examples" / "shop"


def deploy(*words: str) -> "subprocess.CompletedProcess[str]":
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SEAWALL_")}
    command = [sys.executable, "-m", "seawall.cli", "--project", str(SHOP), "deploy", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_what_is_kept_is_what_is_made() -> None:
    """After a change: seawall --project examples/shop deploy kubernetes --out
    examples/shop/deploy/kubernetes"""
    done = deploy("kubernetes", "--out", str(SHOP / "deploy" / "kubernetes"), "--diff")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("ingress", ["nginx", "istio"])
def test_the_shop_fits(ingress: str) -> None:
    pytest.importorskip("kubernetes_validate")
    words = ("kubernetes", "--check", "--json", "--profile", "cluster", "--ingress", ingress)
    done = deploy(*words)
    told = json.loads(done.stdout)
    assert (told["invalid"], told["findings"]) == ([], []), done.stderr
    assert told["objects"] > 50
