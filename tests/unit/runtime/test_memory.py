import sys
from pathlib import Path

import pytest

from seawall.runtime.memory import give_back


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc and needs glibc")
def test_what_is_not_used_is_given_back() -> None:
    # Small pieces, so that they come from the heap; the last one keeps its end from shrinking.
    pieces = [bytes(1000) for _ in range(50_000)]
    kept = pieces[-1]
    full = _resident()
    del pieces
    give_back()
    assert full - _resident() > 20_000_000
    assert len(kept) == 1000
