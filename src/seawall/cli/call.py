"""`seawall call`: one request to a service."""

import argparse
import http.client
import json
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seawall.cli.admin import Admin
from seawall.cli.failure import FAILED, TIMED_OUT, USAGE, Failure
from seawall.cli.project import project_layout
from seawall.cli.screen import print_json
from seawall.errors import Refused
from seawall.identity.mutual import MutualTls
from seawall.identity.workload import peer_id
from seawall.transport.tls import explained

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SVC|INSTANCE", help="orders, orders-2, or gateway")
    parser.add_argument("method", metavar="METHOD", help="GET if left out")
    parser.add_argument("path", nargs="?", metavar="PATH", help="/orders/7")
    parser.add_argument("body", nargs="?", metavar="BODY", help="JSON, @FILE, or @- for stdin")
    parser.add_argument("-H", "--header", action="append", default=[], metavar="NAME: VALUE")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="seconds (30)")


def run(options: argparse.Namespace) -> int:
    method, path, given = _target(options)
    body = None if given is None else _body(given)
    headers = dict(header(text) for text in options.header)
    if body is not None:
        headers.setdefault("content-type", "application/json")
    where = Admin(project_layout(options)).get("/v1/address", [("name", options.service)])
    connection = _connection(where, options.timeout)
    try:
        connection.connect()
        _check(where, connection)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    except TimeoutError:
        what = f"{where['instance']} did not answer within {options.timeout:g} s"
        raise Failure(what, status=TIMED_OUT) from None
    except ssl.SSLError as exc:
        raise Failure(f"{where['instance']} did not answer: {explained(exc)}") from None
    except (OSError, http.client.HTTPException, Refused) as exc:
        raise Failure(f"{where['instance']} did not answer: {exc}") from None
    finally:
        connection.close()
    _show(options, where["instance"], answer, content)
    return 0 if answer.status < 400 else FAILED


def _connection(where: Mapping[str, Any], timeout: float) -> http.client.HTTPConnection:
    """By TLS, as the supervisor, whose certificate its owner can read, where that is needed."""
    host, port = where["host"], where["port"]
    if where["tls"] is None:
        return http.client.HTTPConnection(host, port, timeout=timeout)
    context = MutualTls(where["tls"]).client
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


def _check(where: Mapping[str, Any], connection: http.client.HTTPConnection) -> None:
    """Raises `Refused` if another service answers than was asked."""
    link = connection.sock
    if isinstance(link, ssl.SSLSocket):
        found = peer_id(link.getpeercert())
        if found.service != where["service"]:
            raise Refused(f"{found} answers in its place")


def _target(options: argparse.Namespace) -> tuple[str, str, str | None]:
    """`METHOD PATH [BODY]`, or `PATH [BODY]`, which is a GET."""
    if options.method.startswith("/"):
        return "GET", options.method, options.path
    method = options.method.upper()
    if method not in _METHODS or options.path is None or not options.path.startswith("/"):
        said = " ".join(filter(None, (options.method, options.path)))
        fix = "seawall call orders GET /orders/7"
        raise Failure(f"{said!r} is no method and path", fix=fix, status=USAGE)
    return method, options.path, options.body


def _body(given: str) -> bytes:
    if given == "@-":
        return sys.stdin.buffer.read()
    if not given.startswith("@"):
        return given.encode()
    try:
        return Path(given[1:]).read_bytes()
    except OSError as exc:
        raise Failure(f"{given[1:]}: {exc.strerror}", status=USAGE) from None


def header(text: str) -> tuple[str, str]:
    """The name and the value of `NAME: VALUE`. Raises `Failure`."""
    name, colon, value = text.partition(":")
    if not colon:
        raise Failure(f"{text!r} is no header", fix="-H 'Accept: text/plain'", status=USAGE)
    return name.strip(), value.strip()


def _show(
    options: argparse.Namespace, instance: str, answer: http.client.HTTPResponse, content: bytes
) -> None:
    text = content.decode("utf-8", "replace")
    if getattr(options, "json", False):
        try:
            body = json.loads(content)
        except ValueError:
            body = text
        headers = {name.lower(): value for name, value in answer.getheaders()}
        print_json(
            {
                "schema": "seawall.call/1",
                "instance": instance,
                "status": answer.status,
                "headers": headers,
                "body": body,
            }
        )
        return
    print(f"{instance} answered {answer.status} {answer.reason}", file=sys.stderr)
    if text:
        print(text, end="" if text.endswith("\n") else "\n")
