"""`seawall reload`: other code in a service, without missing a process or losing a request."""

import argparse
import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from seawall.cli.admin import Admin
from seawall.cli.call import header
from seawall.cli.failure import USAGE, Failure
from seawall.cli.project import project_layout, project_spec
from seawall.cli.screen import plain_text, print_json
from seawall.concurrency.tasks import Tasks
from seawall.load.probing import Asking, AtAddress, Probing, Verified
from seawall.load.streams import Streams, StreamsVerified
from seawall.topology import Address

if TYPE_CHECKING:
    from seawall.spec.project import Spec

# Above what one process of a gateway notices, below what it takes to be called load.
_RATE = 100.0  # requests a second

# Enough that both replicas of a pair have some of them.
_STREAMS = 10

_LAST_LINES = 8  # of what a successor said that did not become ready


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SVC", help="orders")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="ask all the while, through the gateway, and fail if one request fails",
    )
    parser.add_argument("--path", metavar="PATH", help="what --verify asks for")
    parser.add_argument(
        "--stream", metavar="PATH", help="an event stream that --verify keeps open, ten times"
    )
    parser.add_argument("--websocket", metavar="PATH", help="the same, of a WebSocket")
    parser.add_argument("-H", "--header", action="append", default=[], metavar="NAME: VALUE")
    parser.add_argument(
        "--rate", type=float, default=_RATE, metavar="N", help=f"requests a second ({_RATE:g})"
    )


def run(options: argparse.Namespace) -> int:
    admin = Admin(project_layout(options), timeout=None)
    if not options.verify:
        _end(options, _reloaded(options, admin))
        return 0
    probes = _probes(options, admin)
    steps, verified, streams = asyncio.run(_verified(options, admin, probes))
    if getattr(options, "json", False):
        print_json(verified_row(verified, streams))
    else:
        print(*(said for said in (verified, *streams) if said is not None), sep="\n")
    _end(options, steps)
    _judge(options.service, verified, streams)
    return 0


@dataclass(frozen=True, slots=True)
class _Probes:
    """What is asked while a service is reloaded."""

    requests: Probing | None
    streams: tuple[Streams, ...]


_Found = tuple[list[Mapping[str, Any]], Verified | None, list[StreamsVerified]]


async def _verified(options: argparse.Namespace, admin: Admin, probes: _Probes) -> _Found:
    """Reload in a thread, since the admin API is asked without a loop; and ask meanwhile."""
    over = threading.Event()

    def work() -> list[Mapping[str, Any]]:
        try:
            return _reloaded(options, admin)
        finally:
            over.set()

    async with Tasks() as tasks:
        streams = [tasks.start(each.run(over.is_set)) for each in probes.streams]
        for each in probes.streams:
            await each.tried()
        asked = None if probes.requests is None else tasks.start(probes.requests.run(over.is_set))
        steps = await asyncio.to_thread(work)
        return steps, await asked if asked else None, [await stream for stream in streams]


def _judge(service: str, verified: Verified | None, streams: Sequence[StreamsVerified]) -> None:
    """Raises `Failure` where something failed, or nothing was there to fail."""
    requests = (verified,) if verified is not None else ()
    for what, found in (("requests", requests), ("streams", streams)):
        if failed := sum(each.failed for each in found):
            failures = [each for one in found for each in one.failures]
            raise Failure(
                f"{failed} of the {what} failed during the reload",
                why="; ".join(f"{count} x {why}" for why, count in failures),
                fix=f"seawall logs {service}",
            )
    if not streams and not any(each.served for each in requests):
        what = "no request was answered with a status below 400, so nothing is verified"
        raise Failure(what, fix="name what to ask for: --path /orders/7 -H 'Authorization: ...'")


def _reloaded(options: argparse.Namespace, admin: Admin) -> list[Mapping[str, Any]]:
    steps: list[Mapping[str, Any]] = []
    for step in admin.work("/v1/reload", {"service": options.service}):
        steps.append(step)
        if getattr(options, "json", False):
            print_json(step)
        elif not step["failed"]:
            back = " again with the code from before" if step["restored"] else ""
            print(f"{step['instance']}: ready after {step['after_s']:.2f} s{back}", flush=True)
    return steps


def _end(options: argparse.Namespace, steps: list[Mapping[str, Any]]) -> None:
    failed = next((step for step in steps if step["failed"]), None)
    if failed is None:
        return
    said = [plain_text(line) for line in failed["last_words"][-_LAST_LINES:]]
    replaced = {s["instance"] for s in steps if not s["failed"] or s.get("was_ready")}
    restored = {step["instance"] for step in steps if step["restored"]}
    runs = "the processes from before go on"
    if restored:
        runs = "all processes run the code from before"
    if left := sorted(replaced - restored):
        runs = f"{', '.join(left)} run the new code, the others go on with that from before"
    what = "does worse than before" if failed.get("was_ready") else "did not become ready"
    raise Failure(
        f"the successor of {failed['instance']} {what}: {failed['failed']}",
        why="\n  | ".join([runs, *said]),
        fix=f"mend it and reload again; seawall logs {failed['instance']}",
    )


def _probes(options: argparse.Namespace, admin: Admin) -> _Probes:
    url = admin.get("/v1/status")["url"]
    if url is None:
        raise Failure("there is no gateway to ask", fix="leave --verify out", status=USAGE)
    if not 0 < options.rate <= 10_000:
        raise Failure(f"--rate is above 0 and at most 10000, not {options.rate:g}", status=USAGE)
    at = urlsplit(url)
    address = Address(at.hostname or "127.0.0.1", at.port or 80)
    fields = [header(text) for text in options.header]
    wanted = ((options.stream, False), (options.websocket, True))
    streams = tuple(
        Streams(address, path, fields, _STREAMS, websocket=websocket)
        for path, websocket in wanted
        if path is not None
    )
    if options.path is not None:
        asking: Asking = AtAddress(address, options.path, fields)
    elif streams:
        return _Probes(None, streams)
    else:
        spec = project_spec(options)
        path = path_of(spec, options.service)
        if path is not None:
            asking = AtAddress(address, path, fields)
        else:
            from seawall.cli.as_caller import AsCaller
            from seawall.runtime.fleets import server_urls

            urls = server_urls(spec, project_layout(options))
            asking = AsCaller(urls.registry, options.service, health_of(spec, options.service))
    return _Probes(Probing(asking, options.rate), streams)


def path_of(spec: "Spec", service: str) -> str | None:
    """What to ask the gateway for so that `service` answers: the first plain path of a route to
    it that asks for no credentials."""
    for route in spec.gateway.routes:
        leads = any(name == service for _, name in route.services())
        plain = route.path_type != "regex" and "{" not in route.path
        if leads and plain and route.auth is None and route.host is None:
            return route.path
    return None


def health_of(spec: "Spec", service: str) -> str:
    """What to ask the service itself for, where no route is open. Raises `Failure` where a
    person has to say."""
    declared = spec.services.get(service)
    if declared is None or spec.identity.mtls:
        # An unknown service, or one that answers only those that it knows by certificate.
        raise Failure(
            f"no open route of the gateway leads to {service} by a plain path",
            fix="name what to ask for: --path /orders/7 -H 'Authorization: Bearer ...'",
            status=USAGE,
        )
    # One that leaves says so by its readiness, though it answers all else.
    return declared.health if declared.module is None else "/livez"


def verified_row(verified: Verified | None, streams: Sequence[StreamsVerified]) -> dict[str, Any]:
    row: dict[str, Any] = {"schema": "seawall.verify/1"}
    if verified is not None:
        row |= {
            "asked": verified.asked,
            "failed": verified.failed,
            "failures": dict(verified.failures),
            "statuses": {str(status): count for status, count in verified.statuses},
            "p99_s": verified.p99,
            "lag_p99_s": verified.lag_p99,
        }
    row["streams"] = [
        {
            "opened": each.opened,
            "ended": each.ended,
            "failed": each.failed,
            "failures": dict(each.failures),
        }
        for each in streams
    ]
    return row
