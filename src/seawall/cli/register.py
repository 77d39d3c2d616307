"""`seawall register NAME -- COMMAND`: any command as a service, without a supervisor."""

import argparse
import asyncio


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the service")
    parser.add_argument(
        "words", metavar="COMMAND", nargs="+", help="what runs, after --; listens on HOST and PORT"
    )
    # Without a name of its own it would be the switch that shows Seawall's version.
    parser.add_argument(
        "--version", dest="service_version", metavar="V", default="0.0.0", help="0.0.0 if not given"
    )
    parser.add_argument(
        "--health", metavar="PATH", default="", help="answers 200 if it is ready; else: connects"
    )


def run(options: argparse.Namespace) -> int:
    from seawall.runtime.attending import Attended, attend, where
    from seawall.service.settings import Settings
    from seawall.telemetry import logs

    settings = Settings.from_environment()
    what = Attended(
        name=options.name,
        version=options.service_version,
        command=tuple(options.words),
        health=options.health,
    )
    at = where(what.name, settings)
    instance = settings.instance_of(what.name)
    logs.configure(logs.Resource(what.name, what.version, instance), settings.log_level)
    return asyncio.run(attend(what, at, settings))
