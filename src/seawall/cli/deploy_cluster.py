"""Handing objects to a cluster, by the `kubectl` that is installed and the context it is set to."""

import shutil
import subprocess
import sys

from seawall.cli.failure import FAILED, Failure
from seawall.cli.screen import print_json

# The API server answers each object within a second; a project has some hundred.
_WITHIN = 300  # seconds


def diff(text: str, *, as_json: bool) -> int:
    """Show what applying would change. The status is that of `kubectl diff`: 1 if it would."""
    done = _kubectl(["diff", "-f", "-"], text)
    if done.returncode > 1:
        raise _failure("diff", done)
    if as_json:
        print_json(
            {
                "schema": "seawall.deploy-diff/1",
                "changed": bool(done.returncode),
                "diff": done.stdout,
            }
        )
    else:
        print(done.stdout, end="")
    return done.returncode


def apply(text: str, *, as_json: bool) -> int:
    done = _kubectl(["apply", "-f", "-"], text)
    if done.returncode:
        raise _failure("apply", done)
    lines = done.stdout.splitlines()
    if as_json:
        print_json({"schema": "seawall.deploy-apply/1", "objects": lines})
    else:
        print(done.stdout, end="")
        print(f"{len(lines)} objects applied", file=sys.stderr)
    return 0


def _kubectl(arguments: list[str], text: str) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("kubectl")
    if program is None:
        raise Failure(
            "there is no kubectl here, and it is what talks to the cluster",
            fix="install kubectl, or write files with --out DIR and apply them elsewhere:"
            " kubectl apply -k DIR/base",
            status=FAILED,
        )
    print(f"kubectl {' '.join(arguments)}", file=sys.stderr)
    try:
        return subprocess.run(
            [program, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failure(
            f"kubectl did not end within {_WITHIN} s",
            fix="is the cluster reached? kubectl cluster-info",
        ) from None


def _failure(what: str, done: "subprocess.CompletedProcess[str]") -> Failure:
    return Failure(
        f"kubectl {what} failed with status {done.returncode}",
        why=done.stderr.strip(),
        fix="kubectl config current-context says which cluster it is",
    )
