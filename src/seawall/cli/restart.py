"""`seawall restart`: replace processes, one after another."""

import argparse

from seawall.cli.admin import Admin
from seawall.cli.failure import FAILED, PARTIAL, Failure, report
from seawall.cli.project import project_layout
from seawall.cli.screen import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="SVC|INSTANCE", help="orders, or orders-2")


def run(options: argparse.Namespace) -> int:
    as_json = getattr(options, "json", False)
    admin = Admin(project_layout(options), timeout=None)
    failures = []
    for name in options.names:
        try:
            answer = admin.post("/v1/restart", {"name": name})
            if as_json:
                print_json(answer)
            if answer["failed"]:
                what = f"{answer['failed'][0]} did not become ready again"
                raise Failure(what, fix=f"seawall logs {answer['failed'][0]}")
        except Failure as failure:
            if len(options.names) == 1:
                raise
            failures.append(report(failure, as_json=as_json))
            continue
        if not as_json:
            print(f"{name}: restarted")
    return 0 if not failures else PARTIAL if len(failures) < len(options.names) else FAILED
