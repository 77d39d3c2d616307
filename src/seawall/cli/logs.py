"""`seawall logs`: what services said, and say."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from seawall.cli.admin import Admin, NotRunning
from seawall.cli.project import project_layout
from seawall.cli.screen import Paint, coloured, log_text
from seawall.runtime.layout import Layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="SVC|INSTANCE", help="all if none is named")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    parser.add_argument(
        "-n", "--tail", type=int, default=100, metavar="N", help="so many stored lines (100)"
    )


def run(options: argparse.Namespace) -> int:
    paint = Paint(coloured(options, sys.stdout))
    width = 0
    for row in _rows(options, project_layout(options)):
        if getattr(options, "json", False):
            print(json.dumps(row), flush=True)
            continue
        width = max(width, len(row["instance"]))
        print(log_text(row["instance"], row["text"], paint, width), flush=True)
    return 0


def _rows(options: argparse.Namespace, layout: Layout) -> Iterator[Mapping[str, Any]]:
    query = [("name", name) for name in options.names]
    query += [("tail", str(max(0, options.tail))), ("follow", "1" if options.follow else "0")]
    try:
        yield from Admin(layout, timeout=None if options.follow else 10.0).stream("/v1/logs", query)
    except NotRunning:
        if options.follow or not layout.logs.is_dir():
            raise
        yield from _stored(options, layout)


def _stored(options: argparse.Namespace, layout: Layout) -> Iterator[Mapping[str, Any]]:
    """What a project that does not run any more said."""
    from seawall.runtime.logs import log_row, read_logs

    def wanted(instance: str) -> bool:
        service = instance.rpartition("-")[0]
        return not options.names or instance in options.names or service in options.names

    for line in read_logs(layout.logs, wanted, max(0, options.tail)):
        yield log_row(line)
