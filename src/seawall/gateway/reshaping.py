"""What a route changes of a request or its answer, as filters: rewrite, redirect, answer, edit.

A path that was rewritten is checked again: whatever a rule makes of a client's path, a service
gets one that has a single reading, and it is the one that was made here, or the request is
refused. Nothing here can write a CR or LF: paths and queries hold none, configured texts are
checked, and hosts are those that `wire.target` let pass.
"""

from typing import TYPE_CHECKING

from seawall.gateway.actions import Edits, Redirect, RegexRewrite, Respond
from seawall.gateway.answers import Answer, Flag
from seawall.gateway.config import Route
from seawall.gateway.paths import (
    Pattern,
    Substitution,
    Template,
    parameters,
    regex,
    segments,
)
from seawall.wire.http1 import MAX_TARGET, ResponseHead
from seawall.wire.target import is_canonical

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange


class Rewriter:
    """What a path that a route matches becomes. Pure.

    The matched part is replaced: all of an exact path or of a pattern's, and of a prefix the
    segments that it names, with what comes behind them kept.
    """

    __slots__ = ("_depth", "_keeps_rest", "_pattern", "_places", "_template", "_values")

    def __init__(self, route: Route, to: str) -> None:
        self._keeps_rest: bool = not route.exact and not route.regex
        self._template: Template = Template(to.rstrip("/") if self._keeps_rest else to)
        self._pattern: Pattern | None = regex(route.path) if route.regex else None
        parts = [] if route.regex else segments(route.path.rstrip("/"))
        self._depth: int = len(parts)
        self._places: tuple[tuple[str, int], ...] = tuple(
            (part[1:-1], number) for number, part in enumerate(parts, 1) if part[:1] == "{"
        )
        self._values: bool = bool(parameters(to))

    def rewritten(self, path: bytes) -> bytes:
        values: dict[str, bytes] = {}
        if self._pattern is not None:
            if self._values:
                values = self._groups(path)
            return self._template.filled(values)
        parts = path.split(b"/", self._depth + 1)
        for name, number in self._places:
            values[name] = parts[number]
        text = self._template.filled(values)
        if not self._keeps_rest:
            return text
        if len(parts) > self._depth + 1:
            text += b"/" + parts[-1]
        return text or b"/"

    def _groups(self, path: bytes) -> dict[str, bytes]:
        pattern = self._pattern
        found = None if pattern is None else pattern.fullmatch(path)
        if pattern is None or found is None:
            return {}
        return {
            name.decode("ascii"): found.group(number) or b""
            for name, number in pattern.groupindex.items()
        }


def _refused(path: bytes) -> Answer | None:
    """The answer to a request whose path was rewritten to one that nobody should get."""
    if len(path) > MAX_TARGET:
        return Answer(
            status=414,
            flag=Flag.CLIENT_PROTOCOL,
            detail=f"the path, rewritten, is longer than {MAX_TARGET} bytes",
        )
    if not is_canonical(path):
        return Answer(
            status=400,
            flag=Flag.CLIENT_PROTOCOL,
            detail="the path, rewritten, has no single meaning",
        )
    return None


class Rewrite:
    """A filter that changes the path for the service; the log keeps the client's."""

    __slots__ = ("_rewriter", "_substitution")

    def __init__(self, route: Route, to: str | None, by: RegexRewrite | None) -> None:
        self._rewriter: Rewriter | None = None if to is None else Rewriter(route, to)
        self._substitution: Substitution | None = (
            None if by is None else Substitution(by.pattern, by.to)
        )

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        path = exchange.head.path
        if path == b"*":
            return None  # OPTIONS about the whole server has no path
        if self._rewriter is not None:
            path = self._rewriter.rewritten(path)
        if self._substitution is not None:
            path = self._substitution.replaced(path)
        refusal = _refused(path)
        if refusal is None:
            exchange.path = path
        return refusal


class RewriteHost:
    """A filter that names another host to the service; `x-forwarded-host` tells the client's."""

    __slots__ = ("_host",)

    def __init__(self, host: str) -> None:
        self._host: bytes = host.encode()

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        head = exchange.head
        head.remove(b"host")
        head.lines.append(b"host: " + self._host)
        if not head.authority:
            head.authority = self._host
        return None


class EditRequest:
    """A filter that edits what the service gets."""

    __slots__ = ("_editor",)

    def __init__(self, edits: Edits) -> None:
        self._editor: Editor = Editor(edits)

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        head = exchange.head
        head.lines = self._editor.edited(head.lines)
        return None


class EditAnswer:
    """A finisher that edits what the client gets."""

    __slots__ = ("_editor",)

    def __init__(self, edits: Edits) -> None:
        self._editor: Editor = Editor(edits)

    def __call__(self, exchange: "Exchange", head: ResponseHead) -> None:
        head.lines = self._editor.edited(head.lines)


class Editor:
    """Edits, prepared. Pure."""

    __slots__ = ("_added", "_gone")

    def __init__(self, edits: Edits) -> None:
        self._gone: frozenset[bytes] = frozenset(
            name.lower().encode() for name in (*edits.remove, *edits.set)
        )
        self._added: tuple[bytes, ...] = tuple(
            f"{name.lower()}: {value}".encode()
            for fields in (edits.set, edits.add)
            for name, value in fields.items()
        )

    def edited(self, lines: list[bytes]) -> list[bytes]:
        gone = self._gone
        if gone:
            lines = [line for line in lines if line.partition(b":")[0].lower() not in gone]
        return [*lines, *self._added]


def _fields(edits: Edits) -> dict[str, str]:
    """What an answer of the route's own has of a route's edits: there is nothing to replace."""
    return {name.lower(): value for both in (edits.set, edits.add) for name, value in both.items()}


class Reply:
    """A filter that always gives the same answer."""

    __slots__ = ("_answer",)

    def __init__(self, respond: Respond, edits: Edits) -> None:
        self._answer: Answer = Answer(
            status=respond.status,
            flag=Flag.NONE,
            detail="",
            headers=_fields(edits),
            body=respond.body.encode(),
            content_type=respond.content_type,
        )

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        return self._answer


class Move:
    """A filter that sends the client elsewhere."""

    __slots__ = ("_fields", "_host", "_port", "_rewriter", "_scheme", "_status", "_stays")

    def __init__(self, route: Route, redirect: Redirect, edits: Edits) -> None:
        self._status: int = redirect.status
        self._scheme: bytes = f"{redirect.scheme}:".encode() if redirect.scheme else b""
        self._host: bytes = redirect.host.encode()
        self._port: bytes = b"" if redirect.port is None else f":{redirect.port}".encode()
        # A location without scheme and host is where the client is already.
        self._stays: bool = not self._scheme and not self._host and not self._port
        self._rewriter: Rewriter | None = (
            None if redirect.path is None else Rewriter(route, redirect.path)
        )
        self._fields: dict[str, str] = _fields(edits)

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        head = exchange.head
        path = head.path
        if self._rewriter is not None and path != b"*":
            path = self._rewriter.rewritten(path)
        refusal = _refused(path)
        if refusal is not None:
            return refusal
        location = path + head.query
        if not self._stays:
            host = self._host or head.host
            if not host:
                return Answer(status=400, flag=Flag.CLIENT_PROTOCOL, detail="no Host")
            location = self._scheme + b"//" + host + self._port + location
        fields = {**self._fields, "location": location.decode("ascii")}
        return Answer(status=self._status, flag=Flag.NONE, detail="", headers=fields, body=b"")
