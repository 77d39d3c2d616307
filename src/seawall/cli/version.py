"""`seawall version`."""

import argparse
import platform

from seawall.cli.screen import print_json
from seawall.version import __version__, build


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(options: argparse.Namespace) -> int:
    python = platform.python_version()
    if getattr(options, "json", False):
        print_json(
            {
                "schema": "seawall.version/1",
                "seawall": __version__,
                "build": build(),
                "python": python,
            }
        )
    else:
        print(f"seawall {__version__}, {build()} (Python {python})")
    return 0
