"""`seawall up`: start everything and keep it running."""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable
from typing import Any

from seawall.cli.admin import Admin, NotRunning
from seawall.cli.failure import FAILED, INTERRUPTED, TERMINATED, TIMED_OUT, USAGE, Failure
from seawall.cli.project import project_layout, project_path, project_spec
from seawall.cli.screen import Paint, coloured, is_routine, log_text, print_json
from seawall.clock import SYSTEM
from seawall.runtime.layout import Layout
from seawall.runtime.logs import Line, log_row
from seawall.runtime.narration import NARRATOR
from seawall.runtime.supervisor import Supervisor
from seawall.spec.project import Spec

_LAST_LINES = 15  # of a supervisor that ended before it was ready


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--watch", action="store_true", help="reload a service when its files change"
    )
    parser.add_argument("--port", type=int, help="of the gateway; 0 takes any free one")
    parser.add_argument("-d", "--detach", action="store_true", help="go on without this terminal")
    parser.add_argument("--wait", action="store_true", help="detach when everything is ready")
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="of --wait, in seconds (60)"
    )


def run(options: argparse.Namespace) -> int:
    if sys.platform == "win32":
        raise Failure(
            "seawall up does not run on Windows",
            why="it needs Unix processes and sockets, and a Valkey",
            fix="run it in WSL 2, or single services with: seawall serve MODULE:APP",
            status=USAGE,
        )
    if options.wait or options.detach:
        return _detach(options)
    flags = {} if options.port is None else {"gateway.port": options.port}
    spec = project_spec(options, flags)
    screen = _Screen(options, _names(spec))
    supervisor = Supervisor(spec, environ=os.environ, show=screen, watch=options.watch)
    return asyncio.run(_supervise(supervisor))


def _names(spec: Spec) -> list[str]:
    """Whose lines may come, so that all are aligned from the first one on."""
    services = [f"{name}-{service.replicas.min}" for name, service in spec.services.items()]
    return [NARRATOR, f"gateway-{spec.gateway.replicas}", *services]


async def _supervise(supervisor: Supervisor) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stop, number.name, number)
    await supervisor.run()
    if supervisor.given_up:
        raise Failure(supervisor.given_up, fix="seawall logs, mend it, and seawall up")
    if supervisor.stopped_by is None:
        return 0
    return INTERRUPTED if supervisor.stopped_by is signal.SIGINT else TERMINATED


class _Screen:
    """Shows lines as they come, but for routine, which `seawall logs` has: services on stdout,
    the supervisor on stderr."""

    def __init__(self, options: argparse.Namespace, names: Collection[str]) -> None:
        self._json = getattr(options, "json", False)
        self._paint = Paint(coloured(options, sys.stdout))
        self._width = max(len(name) for name in names)
        self._gone = False

    def __call__(self, lines: Iterable[Line]) -> None:
        if self._gone:
            return
        try:
            for line in lines:
                if self._json or not (line.routine or is_routine(line.text)):
                    self._show(line)
            sys.stdout.flush()
        except OSError:  # the terminal, or whoever read us, is gone; the project is not
            self._gone = True

    def _show(self, line: Line) -> None:
        if self._json:
            print(json.dumps(log_row(line)))
            return
        self._width = max(self._width, len(line.instance))
        text = log_text(line.instance, line.text, self._paint, self._width)
        if line.instance == NARRATOR:
            sys.stdout.flush()
            print(text, file=sys.stderr, flush=True)
        else:
            print(text)


def _detach(options: argparse.Namespace) -> int:
    layout = project_layout(options)
    layout.prepare()
    command = [sys.executable, "-m", "seawall.cli", "up", "--project", str(project_path(options))]
    if profile := getattr(options, "profile", None):
        command += ["--profile", profile]
    if options.watch:
        command += ["--watch"]
    if options.port is not None:
        command += ["--port", str(options.port)]
    with layout.supervisor_log.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    status = _await(process, layout, options)
    _tell(options, status, process.pid)
    # Left running on purpose; without this Python would warn that it is not waited for.
    process.returncode = 0
    return 0


def _await(
    process: subprocess.Popen[bytes], layout: Layout, options: argparse.Namespace
) -> dict[str, Any]:
    """What the project says of itself once it answers (or, with --wait, is ready)."""
    until, tick = SYSTEM.now() + options.timeout, threading.Event()
    status: dict[str, Any] | None = None
    while SYSTEM.now() < until:
        if (code := process.poll()) is not None:
            raise _ended(code, layout)
        try:
            status = Admin(layout).get("/v1/status")
        except NotRunning:
            status = None
        if status is not None and (not options.wait or status["stage"] == "running"):
            return status
        tick.wait(0.05)
    if status is None:
        waiting = "the supervisor does not answer yet"
    else:
        waiting = "; ".join(entry["reason"] for entry in status.get("unready", []))
    raise Failure(
        f"not ready within {options.timeout:g} s",
        why=waiting or None,
        fix="seawall ps and seawall logs show more; it goes on starting; seawall down stops it",
        status=TIMED_OUT,
    )


def _ended(code: int, layout: Layout) -> Failure:
    said = layout.supervisor_log.read_text(encoding="utf-8", errors="replace").splitlines()
    first = next((i for i, line in enumerate(said) if line.startswith("error")), None)
    message = "\n".join(said[first:] if first is not None else said[-_LAST_LINES:])
    return Failure(
        message.removeprefix("error: ") or f"the supervisor ended with status {code}",
        status=code if code > 0 else FAILED,
    )


def _tell(options: argparse.Namespace, status: dict[str, Any], pid: int) -> None:
    if getattr(options, "json", False):
        print_json({**status, "schema": "seawall.up/1", "pid": pid})
        return
    print(f"{status['project']} is {status['stage']} (pid {pid})", file=sys.stderr)
    if status["url"]:
        print(f"gateway  {status['url']}", file=sys.stderr)
    print("seawall ps | logs -f | down", file=sys.stderr)
