"""`seawall down`: stop everything."""

import argparse
import sys
import threading

from seawall.cli.admin import Admin, NotRunning
from seawall.cli.failure import TIMED_OUT, Failure
from seawall.cli.project import project_layout
from seawall.cli.screen import print_json
from seawall.clock import SYSTEM


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="wait so many seconds (60)"
    )


def run(options: argparse.Namespace) -> int:
    from seawall.runtime.lock import Lock

    layout = project_layout(options)
    try:
        Admin(layout).post("/v1/down", {})
    except NotRunning:
        _say(options, f"{layout.root.name} is not running")
        return 0
    until, tick = SYSTEM.now() + options.timeout, threading.Event()
    with Lock(layout.supervisor_lock) as lock:
        while not lock.try_take():
            if SYSTEM.now() > until:
                raise Failure(f"still stopping after {options.timeout:g} s", status=TIMED_OUT)
            tick.wait(0.05)
    _say(options, f"{layout.root.name} is stopped")
    return 0


def _say(options: argparse.Namespace, text: str) -> None:
    if getattr(options, "json", False):
        print_json({"schema": "seawall.down/1", "message": text})
    else:
        print(text, file=sys.stderr)
