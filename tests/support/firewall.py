"""The rules of this machine's firewall that docker and podman leave when they have ended."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

_POLICY = re.compile(r"^:FORWARD \w+", re.MULTILINE)


class Firewall:
    """What it says when it is looked at; `forget` takes away what came with `marks` since. Where
    such rules were before there is another docker or podman, and nothing is taken."""

    def __init__(self, marks: Sequence[str], link: str = "") -> None:
        self._marks = marks
        self._link = link

    def look(self) -> Self:
        self._before = _saved()
        self._was_there = any(mark in self._before for mark in self._marks)
        return self

    def forget(self) -> None:
        if self._was_there:
            return
        text = without(_saved(), self._marks, _policy(self._before))
        subprocess.run(["iptables-restore"], input=text, text=True, check=True)
        if self._link and Path("/sys/class/net", self._link).exists():
            subprocess.run(["ip", "link", "delete", self._link], check=True)


def without(rules: str, marks: Sequence[str], policy: str) -> str:
    """Rules as `iptables-save` writes them, less those that name a mark."""
    kept = [line for line in rules.splitlines() if not any(mark in line for mark in marks)]
    return _POLICY.sub(policy, "\n".join(kept) + "\n")


def _policy(rules: str) -> str:
    """What becomes of packets that are only passed on; the kernel's own answer without rules."""
    found = _POLICY.search(rules)
    return found[0] if found else ":FORWARD ACCEPT"


def _saved() -> str:
    done = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True)
    return done.stdout
