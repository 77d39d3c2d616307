"""Asks every gateway of a running project to read its configuration again.

In two rounds: first each says what would change, and only if none refuses each does it. So a
mistake in the spec leaves all of them as they are. Each answers on its own admin socket.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# A gateway that reads a spec of 10,000 routes takes some seconds, and new issuers' keys five.
_WITHIN = 30.0  # seconds

# Of one answer: 10,000 changed routes are about 3 MB.
_MOST = 64 * 1024 * 1024  # bytes


async def reload_all(sockets: Mapping[str, Path], *, dry_run: bool) -> list[dict[str, Any]]:
    """What each gateway, by its name, answered: `ok`, its revision, and `changes` or `error`."""
    told = await _each(sockets, "/reload?dry_run=1")
    if dry_run or not all(row["ok"] for row in told):
        return told
    return await _each(sockets, "/reload")


async def _each(sockets: Mapping[str, Path], target: str) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*(_row(name, sockets[name], target) for name in sockets)))


async def _row(name: str, socket: Path, target: str) -> dict[str, Any]:
    row: dict[str, Any] = {"instance": name, "ok": False, "revision": None, "changes": None}
    try:
        async with asyncio.timeout(_WITHIN):
            status, said = await _post(socket, target)
    except TimeoutError:
        return row | {"error": {"message": f"no answer within {_WITHIN:g} s", "fix": None}}
    except (OSError, ValueError, asyncio.IncompleteReadError) as exc:
        return row | {"error": {"message": f"{socket.name}: {exc}", "fix": None}}
    row["revision"] = said.get("revision")
    if status != 200:
        return row | {"error": {"message": said.get("message", ""), "fix": said.get("fix")}}
    return row | {"ok": True, "changes": said["changes"], "error": None}


async def _post(socket: Path, target: str) -> tuple[int, dict[str, Any]]:
    """Raises `ValueError` where the answer is none of a gateway."""
    reader, writer = await asyncio.open_unix_connection(str(socket), limit=_MOST)
    try:
        writer.write(f"POST {target} HTTP/1.1\r\nhost: gateway\r\n\r\n".encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status, said = int(head[9:12]), json.loads(body)
    if not isinstance(said, dict):
        raise ValueError("no answer of a gateway")
    return status, said


def revisions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which configurations run; one where all is well."""
    return sorted({row["revision"] for row in rows if row["revision"] is not None})
