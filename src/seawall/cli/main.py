"""The `seawall` command: finds the command's own file and hands over.

Nothing is imported but what the command at hand needs: `seawall --help` and `seawall ps` take
a tenth of a second.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module

from seawall.cli.failure import USAGE, Failure, interrupted, report
from seawall.errors import SeawallError

# Name: (module, what it does).
COMMANDS: Mapping[str, tuple[str, str]] = {
    "up": ("up", "start everything and keep it running"),
    "down": ("down", "stop everything"),
    "ps": ("ps", "show what runs: state, address, restarts, memory"),
    "logs": ("logs", "show what services say"),
    "call": ("call", "send a request to a service"),
    "queues": ("queues", "how far consumers are behind; peek, pause, resume"),
    "dlq": ("dlq", "dead letters: list, show, edit, redrive, purge"),
    "scale": ("scale", "change how many replicas a service has"),
    "scale explain": ("scale_explain", "why a service has as many replicas as it has"),
    "scale simulate": ("simulate", "what strategies of scaling would have cost"),
    "restart": ("restart", "replace processes, one after another"),
    "reload": ("reload", "new processes beside the old ones, then instead: nobody is missing"),
    "canary": (
        "canary",
        "new code for a part of the requests, watched; it stays or goes",
    ),
    "sagas": ("sagas", "look at sagas, and help one that does not get on"),
    "config": ("config", "show or check the configuration"),
    "gateway": ("gateway", "run one gateway without a supervisor; configure the edge"),
    "contracts": ("contracts", "what services publish and consume; what a change would break"),
    "deploy": ("deploy", "Kubernetes objects, an image and units from the same declaration"),
    "release": ("release", "build, check, apply to the cluster, watch; go back by itself"),
    "metrics-adapter": (
        "metrics_adapter",
        "tell the autoscalers of a cluster what services declare",
    ),
    "serve": ("serve", "run one service, without a supervisor"),
    "register": ("register", "run any command as a service, without a supervisor"),
    "version": ("version", "show the version"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status (see docs/cli.md)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # here, where it can still be heard that nobody reads
    except (SeawallError, Failure) as exc:
        return report(exc, as_json=as_json)
    except KeyboardInterrupt:
        return interrupted()
    except BrokenPipeError:
        # `seawall logs | head`: the reader has seen enough. Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _run(arguments: list[str]) -> int:
    top = _parser()
    first, rest = top.parse_known_args(arguments)
    if first.version:
        first.command = "version"
    if first.command is None:
        top.print_help()
        return USAGE if arguments else 0
    if first.rest and f"{first.command} {first.rest[0]}" in COMMANDS:
        first.command = f"{first.command} {first.rest.pop(0)}"
    if first.command not in COMMANDS:
        close = get_close_matches(first.command, COMMANDS, n=1)
        hint = f"seawall {close[0]}" if close else "seawall --help lists the commands"
        raise Failure(f"there is no command {first.command!r}", fix=hint, status=USAGE)
    module_name, summary = COMMANDS[first.command]
    module = import_module(f"seawall.cli.{module_name}")
    parser = argparse.ArgumentParser(prog=f"seawall {first.command}", description=summary)
    _add_common(parser)
    module.add_arguments(parser)
    options = parser.parse_intermixed_args([*first.rest, *rest], namespace=first)
    return int(module.run(options))


def _parser() -> argparse.ArgumentParser:
    width = max(len(name) for name in COMMANDS)
    listed = "\n".join(f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="seawall",
        description="Services, gateway and messages on one machine with one command.",
        epilog=f"commands:\n{listed}\n\nseawall COMMAND --help tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="seawall [options] COMMAND ...",
    )
    _add_common(parser)
    parser.add_argument("--version", action="store_true", help="show the version")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    """What every command takes, before or after its name."""
    unset = argparse.SUPPRESS
    parser.add_argument("--json", action="store_true", default=unset, help="answer in JSON")
    parser.add_argument("--project", metavar="PATH", default=unset, help="folder or seawall.toml")
    parser.add_argument("--profile", metavar="NAME", default=unset, help="use seawall.NAME.toml")
    parser.add_argument("--no-color", action="store_true", default=unset, help="no colours")


if __name__ == "__main__":
    raise SystemExit(main())
