"""`seawall dlq`: the messages that consumers gave up, and what to do about them."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from seawall.cli.desk import Desk, add_place, desk
from seawall.cli.dlq_edit import edited
from seawall.cli.dlq_screen import render_causes, render_letters, render_whole
from seawall.cli.failure import FAILED, REFUSED, USAGE, Failure
from seawall.cli.moments import moment
from seawall.cli.screen import Paint, coloured, print_json
from seawall.clock import SYSTEM


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("ls", "show", "edit", "redrive", "purge"))
    parser.add_argument("ids", nargs="*", metavar="ID", help="of dead letters, or of messages")
    which = parser.add_argument_group("which")
    which.add_argument("--topic", metavar="NAME", default="")
    which.add_argument("--group", metavar="NAME", default="")
    which.add_argument(
        "--reason",
        metavar="REASON",
        default="",
        help="exhausted, rejected, undecodable, poison, expired or parked",
    )
    which.add_argument("--since", metavar="TIME", help="died within 30m, 2h, 3d, or since a time")
    which.add_argument("--match", metavar="TEXT", default="", help="in error, headers or body")
    which.add_argument("--id", action="append", default=[], metavar="ID", help="as a bare ID")
    which.add_argument("--all", action="store_true", help="redrive, purge: really all there are")
    which.add_argument("--limit", type=int, metavar="N", help="so many of them at most")
    how = parser.add_argument_group("how")
    how.add_argument("-l", "--letters", action="store_true", help="ls: each letter, not causes")
    how.add_argument("--dry-run", action="store_true", help="redrive, purge: only count")
    how.add_argument("--rate", type=float, metavar="N", help="redrive: so many a second")
    how.add_argument("--yes", action="store_true", help="purge: do not ask")
    how.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="edit: a field of the JSON body; `a.b` is one inside another",
    )
    how.add_argument("--body", metavar="FILE", help="edit: this body; `-` is standard input")
    add_place(parser)


def run(options: argparse.Namespace) -> int:
    asked = desk(options)
    if options.what == "ls":
        return _list(options, asked)
    if options.what == "show":
        return _show(options, asked)
    if options.what == "edit":
        return _edit(options, asked)
    return _work(options, asked)


def _where(options: argparse.Namespace) -> dict[str, Any]:
    now = SYSTEM.wall()
    return {
        "id": [*options.ids, *options.id],
        "topic": options.topic,
        "group": options.group,
        "reason": options.reason,
        "since": "" if options.since is None else f"{moment(options.since, now):.3f}",
        "match": options.match,
    }


def _query(where: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, each)
        for name, value in where.items()
        for each in (value if isinstance(value, list) else [value])
        if each
    ]


def _list(options: argparse.Namespace, asked: Desk) -> int:
    show = options.limit or 50 if options.letters else 0
    answer = asked.get("/v1/dlq", [*_query(_where(options)), ("show", str(show))])
    if getattr(options, "json", False):
        print_json(answer)
        return 0
    paint = Paint(coloured(options, sys.stdout))
    render = render_letters if options.letters else render_causes
    print(render(answer, paint, SYSTEM.wall()))
    return 0


def _letters(options: argparse.Namespace, asked: Desk) -> dict[str, Any]:
    where = _where(options)
    if not where["id"]:
        fix = f"seawall dlq {options.what} ID; seawall dlq ls shows ids"
        raise Failure("which dead letter?", fix=fix, status=USAGE)
    return asked.get("/v1/dlq/letters", _query(where))


def _show(options: argparse.Namespace, asked: Desk) -> int:
    answer = _letters(options, asked)
    if getattr(options, "json", False):
        print_json(answer)
        return 0
    paint = Paint(coloured(options, sys.stdout))
    print("\n\n".join(render_whole(letter, paint) for letter in answer["letters"]))
    return 0


def _edit(options: argparse.Namespace, asked: Desk) -> int:
    found = _letters(options, asked)["letters"]
    if len(found) != 1:
        places = "; ".join(f"{each['id']} of {each['topic']} / {each['group']}" for each in found)
        fix = "one ID, and --topic and --group if that is not enough"
        raise Failure(
            f"{len(found)} dead letters, and one is edited", why=places, fix=fix, status=USAGE
        )
    (letter,) = found
    body = edited(letter["body"], options.set, options.body)
    if body is None:
        print("nothing was changed", file=sys.stderr)
        return 0
    answer = asked.post(
        "/v1/dlq/edit",
        {**{name: letter[name] for name in ("id", "topic", "group")}, "body": body},
    )
    if getattr(options, "json", False):
        print_json(answer)
    else:
        name = letter["message_id"]
        print(f"{name} has its new body; to send it again:\n  seawall dlq redrive {name}")
    return 0


def _work(options: argparse.Namespace, asked: Desk) -> int:
    """Redrive or purge: count first, ask if it cannot be undone, then tell how far it is."""
    values = {**_where(options), "all": options.all, "limit": options.limit, "rate": options.rate}
    as_json, what = getattr(options, "json", False), options.what
    path = f"/v1/dlq/{what}"
    if options.dry_run or (what == "purge" and not options.yes):
        last = _followed(asked.work(path, {**values, "dry_run": True}), shown=False)
        if options.dry_run or not last["total"]:
            if as_json:
                print_json(last)
            else:
                print(_would(what, last))
            return 0
        _confirm(last)
    last = _followed(asked.work(path, values), shown=not as_json and sys.stderr.isatty())
    if as_json:
        print_json(last)
    else:
        print(_did(what, last))
    return 0


def _followed(lines: Iterator[dict[str, Any]], *, shown: bool) -> dict[str, Any]:
    """The last line, with the counts by group; raises `Failure` if the work was not finished."""
    last: dict[str, Any] = {}
    for line in lines:
        last = {"groups": last.get("groups", []), **line}
        if shown:
            print(f"\r{line['done']} of {line['total']}", end="", file=sys.stderr, flush=True)
    if shown:
        print("\r\x1b[K", end="", file=sys.stderr)
    if not last.get("finished"):
        done = f"{last.get('done', 0)} of {last.get('total', 0)} were done"
        raise Failure(
            last.get("message", "the supervisor went away"),
            why=None if not last.get("total") else done,
            fix=last.get("fix") or "the same command again goes on where this one ended",
            status=USAGE if last.get("code") == "Misconfigured" else FAILED,
            code=last.get("code", "Failure"),
        )
    return last


def _confirm(last: Mapping[str, Any]) -> None:
    if not sys.stdin.isatty():
        raise Failure(
            f"{_letters_of(last['total'])} would be deleted for good",
            fix="--yes if that is meant, --dry-run to see which groups",
            status=REFUSED,
        )
    print(_would("purge", last), file=sys.stderr)
    if input("Delete them for good? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Failure("nothing was deleted", status=REFUSED)


def _letters_of(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


def _would(what: str, last: Mapping[str, Any]) -> str:
    if not last["total"]:
        return "no dead letter fits"
    verb = "redriven" if what == "redrive" else "deleted"
    lines = [f"{_letters_of(last['total'])} would be {verb}"]
    lines += [f"  {each['count']:>7}  {each['topic']} / {each['group']}" for each in last["groups"]]
    return "\n".join(lines)


def _did(what: str, last: Mapping[str, Any]) -> str:
    if not last["total"]:
        return "no dead letter fits; seawall dlq ls shows what there is"
    gone = last["total"] - last["done"]
    others = f"; {gone} were gone already" if gone else ""
    if what == "purge":
        return f"{_letters_of(last['done'])} deleted{others}"
    return f"{_letters_of(last['done'])} sent again, each to its own group{others}"
