"""`seawall sagas`: look at the sagas of the services, and help one that does not get on."""

import argparse
import getpass
import http.client
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from seawall.cli.admin import Admin
from seawall.cli.failure import FAILED, REFUSED, UNREACHABLE, USAGE, Failure
from seawall.cli.project import project_layout
from seawall.cli.screen import (
    GREEN,
    GREY,
    RED,
    YELLOW,
    Paint,
    coloured,
    duration,
    print_json,
    table,
)
from seawall.clock import SYSTEM

_PHASES = ("running", "compensating", "stuck", "completed", "compensated", "failed")

_COLOURS = {
    "stuck": RED,
    "failed": RED,
    "compensating": YELLOW,
    "running": GREEN,
    "completed": GREEN,
}

_HEADINGS = ("SERVICE", "SAGA", "ID", "PHASE", "WAITS FOR", "SINCE", "AGE", "REASON")

_TIMEOUT = 10.0  # seconds

# Of a reason in a list; `show` has all of it.
_SHORT = 60  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("ls", "show", "resume", "skip", "fail"))
    parser.add_argument("id", nargs="?", help="the saga's id")
    parser.add_argument("--service", metavar="SVC", help="only this one; else all are asked")
    parser.add_argument("--url", help="ask the service there, without a supervisor")
    listing = parser.add_argument_group("ls")
    listing.add_argument("--phase", action="append", choices=_PHASES, help="those that are open")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="of a service (100)")
    acts = parser.add_argument_group(
        "resume, skip, fail",
        "resume repeats at once; skip counts the open step as done; fail turns back",
    )
    acts.add_argument("--reason", help="why, for the timeline")
    acts.add_argument("--by", metavar="NAME", help="who, for the timeline; you")
    acts.add_argument("--step", metavar="NAME", default="", help="skip: where several are open")
    acts.add_argument(
        "--force", action="store_true", help="fail: end it as it stands, where it cannot turn back"
    )


def run(options: argparse.Namespace) -> int:
    as_json = getattr(options, "json", False)
    paint = Paint(coloured(options, sys.stdout))
    if options.what == "ls" and options.id is not None:
        fix = f"seawall sagas show {options.id}, or ls --service {options.id}"
        raise Failure("ls takes no name", fix=fix, status=USAGE)
    question = _question(options)
    ask = _asker(options)
    if options.what == "ls":
        rows = ask(question, options.service)
        if as_json:
            print_json({"schema": "seawall.sagas/1", "services": rows})
        else:
            print(listed(rows, SYSTEM.wall(), paint))
        return _status(rows)
    if options.id is None:
        fix = f"seawall sagas {options.what} ID"
        raise Failure("which saga?", fix=fix, status=USAGE)
    service, saga = _found(options, ask)
    if options.what != "show":
        (row,) = ask(question, service)
        if row["error"] is not None:
            raise Failure(row["error"], status=REFUSED, code="Refused")
        saga = row["answer"]["saga"]
    if as_json:
        print_json({"schema": "seawall.saga/1", "service": service, "saga": saga})
    else:
        print(shown(service or "", saga, paint))
    return 0


def _question(options: argparse.Namespace) -> dict[str, Any]:
    if options.what == "ls":
        return {"do": "ls", "phases": options.phase, "limit": options.limit}
    if options.what == "show":
        return {"do": "show", "id": options.id}
    if options.what != "resume" and not options.reason:
        fix = f'seawall sagas {options.what} {options.id or "ID"} --reason "…"'
        raise Failure("the timeline should say why", fix=fix, status=USAGE)
    return {
        "do": options.what,
        "id": options.id,
        "by": options.by or getpass.getuser(),
        "reason": options.reason,
        "step": options.step,
        "force": options.force,
    }


class _Supervised:
    """Asks through the admin API of the project."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def __call__(self, question: Mapping[str, Any], service: str | None) -> list[dict[str, Any]]:
        asked = {"operation": "sagas", "service": service or "", "question": question}
        return list(self._admin.post("/v1/operate", asked)["services"])


class _Direct:
    """Asks one service at its address, wherever it runs."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise Failure(f"{url!r} is no address", fix="--url http://orders:8000", status=USAGE)
        self._where = parts
        self._token = token

    def __call__(self, question: Mapping[str, Any], service: str | None) -> list[dict[str, Any]]:
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        connection = kinds[self._where.scheme](self._where.netloc, timeout=_TIMEOUT)
        headers = {
            "authorization": f"Bearer {self._token}",
            "content-type": "application/json",
        }
        path = f"{self._where.path.rstrip('/')}/-/sagas"
        try:
            connection.request("POST", path, json.dumps(question), headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as exc:
            what = f"{self._where.netloc} did not answer: {exc}"
            raise Failure(what, status=UNREACHABLE) from None
        finally:
            connection.close()
        name = service or self._where.netloc
        if answer.status != 200:
            return [{"service": name, "answer": None, "error": said.get("detail", "it failed")}]
        return [{"service": name, "answer": said, "error": None}]


def _asker(options: argparse.Namespace) -> _Supervised | _Direct:
    if options.url is None:
        return _Supervised(Admin(project_layout(options)))
    from seawall.service.settings import Settings

    token = Settings.from_environment().operator_token
    if token is None:
        fix = "set SEAWALL_OPERATOR_TOKEN, or SEAWALL_OPERATOR_TOKEN_FILE"
        raise Failure("the service wants an operator's token", fix=fix, status=USAGE)
    return _Direct(options.url, token)


def _found(
    options: argparse.Namespace, ask: _Supervised | _Direct
) -> tuple[str | None, dict[str, Any]]:
    """The one service that has this saga, and the saga."""
    rows = ask({"do": "show", "id": options.id}, options.service)
    having = [row for row in rows if row["answer"] is not None and row["answer"]["saga"]]
    if len(having) == 1:
        return having[0]["service"], having[0]["answer"]["saga"]
    if having:
        names = ", ".join(row["service"] for row in having)
        raise Failure(
            f"{names} all have a saga {options.id}",
            fix=f"--service {having[0]['service']}",
            status=USAGE,
        )
    wrong = [row["error"] for row in rows if row["error"] is not None]
    if wrong:
        raise Failure("; ".join(wrong))
    raise Failure(f"there is no saga {options.id}", fix="seawall sagas ls", code="UnknownSaga")


def _status(rows: Sequence[Mapping[str, Any]]) -> int:
    return FAILED if any(row["error"] is not None for row in rows) else 0


def listed(rows: Sequence[Mapping[str, Any]], now: float, paint: Paint) -> str:
    """The list for a person."""
    cells = [
        _cells(row["service"], saga, now, paint)
        for row in rows
        if row["answer"] is not None
        for saga in row["answer"]["sagas"]
    ]
    counts = [
        f"{row['service']} {name}: {_counted(phases)}"
        for row in rows
        if row["answer"] is not None
        for name, phases in row["answer"]["counts"].items()
    ]
    errors = [paint(row["error"], RED) for row in rows if row["error"] is not None]
    parts = [table(_HEADINGS, cells, paint)] if cells else []
    return "\n".join([*parts, *counts, *errors]) or "no service has sagas"


def _counted(phases: Mapping[str, int]) -> str:
    return ", ".join(f"{phases[p]} {p}" for p in _PHASES if p in phases) or "none yet"


def _cells(service: str, saga: Mapping[str, Any], now: float, paint: Paint) -> list[str]:
    reason = saga["reason"] or "-"
    return [
        service,
        f"{saga['name']} v{saga['version']}",
        saga["id"],
        paint(saga["phase"], _COLOURS.get(saga["phase"], GREY)),
        "; ".join(saga["waits_for"]) or "-",
        duration(now - saga["moved_at"]),
        duration(now - saga["started_at"]),
        reason if len(reason) <= _SHORT else f"{reason[:_SHORT]}…",
    ]


def shown(service: str, saga: Mapping[str, Any], paint: Paint) -> str:
    """Where one saga is, and how it came there."""
    phase = paint(saga["phase"], _COLOURS.get(saga["phase"], GREY))
    lines = [f"{service} {saga['name']} v{saga['version']} {saga['id']}: {phase}"]
    if saga["reason"]:
        lines.append(f"turned back: {saga['reason']}")
    if saga["deadline_at"] is not None:
        lines.append(f"deadline: {_clock(saga['deadline_at'])}")
    lines.append("")
    for step in saga["steps"]:
        attempts = f", attempt {step['attempts']}" if step["attempts"] > 1 else ""
        until = f", until {_clock(step['next_at'])}" if step["next_at"] is not None else ""
        lines.append(f"  {step['name']:<20} {step['state']}{attempts}{until}")
    lines.append("")
    began = saga["started_at"]
    for entry in saga["timeline"]:
        passed = f"+{entry['at'] - began:.3f} s"
        lines.append(f"  {paint(_clock(entry['at']), GREY)} {passed:>12}  {entry['what']}")
    return "\n".join(lines)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
