"""What operators do to a gateway that runs: the paths of the admin listener that take POST.

    /reload            read the configuration again and do as it says; ?dry_run=1 only tells
    /drain, /undrain   be unready, and ask clients to connect anew; or be ready again

A browser that was led here by a page sends `Origin`, and is refused.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Final

from seawall.errors import Misconfigured, SeawallError
from seawall.gateway.changes import Changes
from seawall.gateway.gateway import Gateway
from seawall.wire.http1 import RequestHead

Reload = Callable[[bool], Awaitable[Changes]]
"""Reads the configuration and applies it, or, if it is asked for a dry run, says what that would
change. Raises `Misconfigured`; then nothing has changed."""

Told = tuple[int, str, str]

PATHS: Final = frozenset((b"/reload", b"/drain", b"/undrain"))


async def act(gateway: Gateway, head: RequestHead, reload: Reload | None) -> Told:
    """Do what a POST asks for: status, type and text of the answer."""
    if head.has(b"origin"):
        return _refusal(403, "a page in a browser asks; this listener is for operators")
    if head.body:
        return _refusal(400, "no body is wanted here")
    if head.path == b"/reload":
        return await _reload(gateway, reload, dry_run=head.query == b"?dry_run=1")
    try:
        gateway.step_aside(head.path == b"/drain")
    except SeawallError as refusal:
        return _refusal(409, str(refusal))
    return _told({"draining": gateway.proxy.draining})


async def _reload(gateway: Gateway, reload: Reload | None, *, dry_run: bool) -> Told:
    if reload is None:
        return _refusal(501, "this gateway was not told where to read its configuration")
    try:
        changed = await reload(dry_run)
    except Misconfigured as wrong:
        return _told(
            {
                "code": type(wrong).__name__,
                "message": wrong.reason,
                "fix": wrong.fix,
                "revision": gateway.revision,
            },
            status=400,
        )
    return _told({"dry_run": dry_run, "revision": gateway.revision, "changes": changed.plain()})


def _refusal(status: int, message: str) -> Told:
    return _told({"message": message}, status)


def _told(value: object, status: int = 200) -> Told:
    return status, "application/json", json.dumps(value, indent=2) + "\n"
