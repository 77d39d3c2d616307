"""`seawall serve MODULE:APP`: one service, without a supervisor."""

import argparse
import os
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="MODULE:APP", help="orders.app:service")
    parser.add_argument("--host", help="127.0.0.1, or HOST")
    parser.add_argument("--port", type=int, help="any free one, or PORT")


def run(options: argparse.Namespace) -> int:
    for name, value in (("HOST", options.host), ("PORT", options.port)):
        if value is not None:
            os.environ[name] = str(value)
    sys.path.insert(0, os.getcwd())
    from seawall.service.serve import serve

    return serve(options.target)
