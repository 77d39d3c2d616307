"""`seawall gateway run`: one gateway, without a supervisor."""

import argparse

from seawall.cli.project import project_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("run",))


def run(options: argparse.Namespace) -> int:
    from seawall.runtime.gateway import run as run_gateway

    return run_gateway(str(project_path(options)), getattr(options, "profile", None) or "")
