"""`seawall metrics-adapter`: tell a cluster's autoscalers the figures that services declare."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from seawall.cli.failure import USAGE, Failure
from seawall.cli.project import project_services, project_spec

if TYPE_CHECKING:
    from seawall.messaging.base import Subscription
    from seawall.spec.project import Spec
    from seawall.topology import Address


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="where it listens")
    parser.add_argument("--port", type=int, default=0, help="any free one if 0")
    parser.add_argument(
        "--gateway",
        metavar="HOST:PORT",
        action="append",
        default=[],
        help="the admin listener of gateways; a name stands for all its addresses",
    )
    parser.add_argument(
        "--every", type=float, default=5.0, metavar="SECONDS", help="between two looks"
    )
    parser.add_argument(
        "--tls", action="store_true", help="with a certificate of its own making, or of --tls-dir"
    )
    parser.add_argument("--tls-dir", metavar="DIR", help="with tls.crt and tls.key in it")


def run(options: argparse.Namespace) -> int:
    from seawall.runtime.metrics_adapter import AdapterConfig, run

    spec = project_spec(options)
    scales = {name: service.scale for name, service in spec.services.items() if service.scale}
    if not scales:
        raise Failure(
            "no service declares what it scales by",
            fix='[[services.NAME.scale]] with metric = "requests" and a target',
            status=USAGE,
        )
    if not 0.1 <= options.every <= 60:
        raise Failure("--every is 0.1 to 60 seconds", status=USAGE)
    if spec.messages.url is None or spec.registry.url is None:
        raise Failure(
            "it asks the registry and the broker, and where they are is not declared",
            fix="[registry] url and [messages] url, or SEAWALL_REGISTRY__URL and"
            " SEAWALL_MESSAGES__URL",
            status=USAGE,
        )
    with tempfile.TemporaryDirectory(prefix="seawall-tls-") as made:
        folder = _certificates(options, spec, Path(made))
        return run(
            AdapterConfig(
                project=spec.project.name,
                registry_url=spec.registry.url,
                messages_url=spec.messages.url,
                scales=scales,
                consumes=_consumed(spec),
                gateways=[_address(each) for each in options.gateway],
                host=options.host,
                port=options.port,
                certificate=None if folder is None else folder / "tls.crt",
                key=None if folder is None else folder / "tls.key",
                every=options.every,
            )
        )


def _certificates(options: argparse.Namespace, spec: "Spec", made: Path) -> Path | None:
    """The folder with its certificate; None without TLS."""
    if options.tls_dir is not None:
        return Path(options.tls_dir)
    if not options.tls:
        return None
    from datetime import UTC, datetime, timedelta

    from seawall.identity.authority import Authority
    from seawall.identity.workload import WorkloadId

    # Nobody checks it (the cluster is told so), so it need not be renewed while this runs.
    now, lifetime = datetime.now(UTC), timedelta(days=365)
    identity = WorkloadId(spec.project.name, "metrics-adapter")
    Authority.generate(now).issue(identity, now, lifetime=lifetime).write(made)
    return made


def _consumed(spec: "Spec") -> "dict[str, list[Subscription]]":
    """What services consume whose queues are asked for, by their code: one of which nothing runs
    tells nobody."""
    if not any(e.metric in ("queue", "age") for s in spec.services.values() for e in s.scale):
        return {}
    return {
        name: [handler.subscription for handler in service.gauges.declared.handlers]
        for name, service in project_services(spec).items()
    }


def _address(text: str) -> "Address":
    from seawall.topology import Address

    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise Failure(f"--gateway {text!r} is no HOST:PORT", status=USAGE)
    return Address(host.strip("[]"), int(port))
