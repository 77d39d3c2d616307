"""Puts an operator's question to services that run here, with the operator's token.

Any ready replica can answer, for what it is asked about is in the service's database.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from seawall.runtime.asking import At

# A service answers from its database within milliseconds; one that is stuck is not waited for.
_WITHIN = 5.0  # seconds

# Of one answer: a thousand sagas in a list are about 400 KB.
_MOST = 16 * 1024 * 1024  # bytes

_NOT_OFFERED = frozenset({404, 405})


async def ask_all(
    places: Mapping[str, At], operation: str, question: Mapping[str, Any], token: str
) -> list[dict[str, Any]]:
    """What each service, by its name, answered: its `answer`, or the `error`. Services that do
    not offer the operation are left out."""
    rows = await asyncio.gather(
        *(_row(name, at, operation, question, token) for name, at in places.items())
    )
    return [row for row in rows if row is not None]


async def _row(
    name: str, at: At, operation: str, question: Mapping[str, Any], token: str
) -> dict[str, Any] | None:
    row: dict[str, Any] = {"service": name, "answer": None, "error": None}
    try:
        async with asyncio.timeout(_WITHIN):
            status, said = await _post(at, operation, question, token)
    except TimeoutError:
        return row | {"error": f"{name} did not answer within {_WITHIN:g} s"}
    except (OSError, ValueError) as exc:
        return row | {"error": f"{name} did not answer: {exc}"}
    if status in _NOT_OFFERED:
        return None
    if status != 200:
        return row | {"error": said.get("detail") or f"{name} answered {status}"}
    return row | {"answer": said}


async def _post(
    at: At, operation: str, question: Mapping[str, Any], token: str
) -> tuple[int, dict[str, Any]]:
    """Raises `ValueError` where the answer is none of a service's."""
    reader, writer = await at.connect(_MOST)
    try:
        body = json.dumps(question).encode()
        head = (
            f"POST /-/{operation} HTTP/1.1\r\nhost: {at}\r\nauthorization: Bearer {token}\r\n"
            "content-type: application/json\r\nconnection: close\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode("latin-1") + body)
        head_bytes, _, answer = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status = int(head_bytes[9:12])
    if status in _NOT_OFFERED:
        return status, {}
    said = json.loads(answer)
    if not isinstance(said, dict):
        raise ValueError("no answer of an operation")
    return status, said
