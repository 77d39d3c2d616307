from typing import Any

from seawall.cli.ps import render
from seawall.cli.screen import Paint


def _instance(**changed: Any) -> dict[str, Any]:
    return {
        "instance": "orders-1",
        "state": "ready",
        "reason": "",
        "pid": 7,
        "address": "127.0.0.1:81",
        "version": "1.2.0",
        "uptime_s": 61.0,
        "restarts": 0,
        "cpu": 0.25,
        "memory_bytes": 30 * 1024 * 1024,
        "last_exit": None,
        "last_words": [],
        "next_start_s": None,
        **changed,
    }


def _shown(*instances: dict[str, Any]) -> list[str]:
    answer = {"project": "shop", "stage": "running", "url": None, "instances": list(instances)}
    return render(answer, Paint(False)).splitlines()


def test_a_line_for_each_instance_and_a_sum() -> None:
    shown = _shown(_instance(), _instance(instance="orders-2"))
    assert shown[0] == "shop  running"
    assert shown[3].split() == [
        *("●", "orders-1", "ready", "1.2.0", "127.0.0.1:81"),
        *("7", "1", "m", "1", "s", "0", "25%", "30", "MB"),
    ]
    assert shown[-1] == "2 of 2 ready, 60 MB"


def test_what_is_not_ready_says_why() -> None:
    waiting = _instance(
        state="waiting",
        pid=None,
        cpu=None,
        memory_bytes=None,
        last_exit="exited with status 3",
        last_words=["no such table"],
        next_start_s=1.25,
    )
    shown = _shown(waiting, _instance(instance="b-1", state="starting", reason="no answer"))
    assert "orders-1: exited with status 3; starts again in 1.2 s" in shown
    assert "  | no such table" in shown
    assert "b-1: no answer" in shown
    assert "0 of 2 ready, 30 MB" in shown


def test_a_service_that_has_too_much_to_do_says_so_and_whether_more_would_help() -> None:
    services = [
        {"service": "orders", "shed": 12.34, "capacity_limited": "all 2 cores are busy"},
        {"service": "users", "shed": None, "capacity_limited": None},
    ]
    answer = {"project": "shop", "stage": "running", "url": None, "instances": []}
    shown = render({**answer, "services": services}, Paint(False)).splitlines()
    assert shown[-2:] == [
        "orders refuses 12.3 requests a second",
        "orders is capacity-limited: all 2 cores are busy",
    ]


def test_nothing_runs() -> None:
    assert _shown()[-1] == "0 of 0 ready, 0 MB"


def test_with_mtls_it_says_whom_that_leaves_out() -> None:
    rows = [
        {"instance": "orders-1", "service": "orders", "kind": "service", "tls": True},
        {"instance": "old-1", "service": "old", "kind": "command", "tls": False},
        {"instance": "gateway-1", "service": "gateway", "kind": "gateway", "tls": False},
    ]
    answer = {"project": "shop", "stage": "running", "url": None, "mtls": True}
    shown = [_instance(**row) for row in rows]
    assert render({**answer, "instances": shown}, Paint(False)).endswith("90 MB, mTLS except old")
    assert render({**answer, "instances": shown[:1]}, Paint(False)).endswith("30 MB, mTLS")
