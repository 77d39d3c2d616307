"""`seawall scale SVC=N`: how many replicas; `SVC=auto`: as many as it takes."""

import argparse

from seawall.cli.admin import Admin
from seawall.cli.failure import PARTIAL, USAGE, Failure, report
from seawall.cli.project import project_layout
from seawall.cli.screen import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets", nargs="+", metavar="SVC=N", help="orders=3, orders=+2, orders=-1, orders=auto"
    )


def run(options: argparse.Namespace) -> int:
    as_json = getattr(options, "json", False)
    # Those that leave may take their whole grace.
    admin = Admin(project_layout(options), timeout=None)
    pairs = [_pair(target) for target in options.targets]
    failures = []
    for service, replicas in pairs:
        try:
            answer = admin.post("/v1/scale", {"service": service, "replicas": replicas})
        except Failure as failure:
            if len(pairs) == 1:
                raise
            failures.append(report(failure, as_json=as_json))
            continue
        if as_json:
            print_json(answer)
        else:
            by_itself = ", and from now on by itself" if answer["mode"] == "auto" else ""
            print(f"{service}: {answer['was']} -> {answer['replicas']}{by_itself}")
    return 0 if not failures else PARTIAL if len(failures) < len(pairs) else failures[0]


def _pair(target: str) -> tuple[str, str]:
    service, equals, replicas = target.partition("=")
    if not equals or not service or not replicas:
        fix = "seawall scale orders=3"
        raise Failure(f"{target!r} does not say how many", fix=fix, status=USAGE)
    return service, replicas
