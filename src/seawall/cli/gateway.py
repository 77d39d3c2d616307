"""`seawall gateway`: run one gateway without a supervisor, or configure the proxy in front."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from seawall.cli.failure import USAGE, Failure
from seawall.cli.project import project_path, project_spec
from seawall.cli.screen import print_json

if TYPE_CHECKING:
    from seawall.runtime.gateway_export import Exported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("run", "check", "diff", "reload", "export"))
    parser.add_argument("--dry-run", action="store_true", help="reload: only tell what it changes")
    export = parser.add_argument_group("export", "a configuration of the proxy in front")
    export.add_argument("--to", choices=("nginx", "envoy", "haproxy"), help="the program")
    export.add_argument("--out", metavar="FILE", help="standard output, or FILE")
    export.add_argument(
        "--gateway",
        metavar="HOST:PORT",
        action="append",
        default=[],
        help="the project's own, or each gateway that is elsewhere",
    )
    export.add_argument("--listen", metavar="HOST:PORT", help="0.0.0.0:80, with TLS 0.0.0.0:443")
    export.add_argument("--tls-cert", metavar="FILE", default="", help="end TLS with this chain")
    export.add_argument("--tls-key", metavar="FILE", default="", help="its key, if not in there")
    export.add_argument(
        "--admin-port", metavar="N", type=int, help="of each gateway: ask /readyz there"
    )


def run(options: argparse.Namespace) -> int:
    if options.what == "export":
        return _export(options)
    if options.what in ("check", "diff", "reload"):
        from seawall.cli import gateway_config

        return gateway_config.run(options)
    from seawall.runtime.gateway import run as run_gateway

    return run_gateway(str(project_path(options)), getattr(options, "profile", None) or "")


def _export(options: argparse.Namespace) -> int:
    if options.to is None:
        raise Failure(
            "which program is in front?", fix="--to nginx, envoy or haproxy", status=USAGE
        )
    spec = project_spec(options)
    from seawall.runtime.gateway_export import Wanted, exported

    made = exported(
        spec.gateway,
        Wanted(
            program=options.to,
            gateways=options.gateway,
            listen=options.listen or "",
            certificate=options.tls_cert,
            key=options.tls_key,
            admin_port=options.admin_port,
        ),
    )
    if options.out is not None:
        _write(Path(options.out), made.text)
    if getattr(options, "json", False):
        print_json(
            {
                "schema": "seawall.gateway-export/1",
                "to": options.to,
                "config": made.text,
                "trusted_proxies": list(made.trusted_proxies),
            }
        )
        return 0
    if options.out is None:
        print(made.text, end="")
    _tell(made, options.out)
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise Failure(f"{path} was not written: {exc.strerror or exc}") from exc


def _tell(made: "Exported", out: str | None) -> None:
    if out is not None:
        written = Path(out).resolve()
        print(f"{out} is written; check it with: {made.check} {written}", file=sys.stderr)
    if made.trusted_proxies:
        named = ", ".join(f'"{network}"' for network in made.trusted_proxies)
        print(
            "gateways will see the proxy as their client until seawall.toml has\n"
            f"  [gateway]\n  trusted_proxies = [{named}]",
            file=sys.stderr,
        )
