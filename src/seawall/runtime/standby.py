"""A process that has imported its service and waits to be told which replica to be.

It listens to nobody, is in no list, and knows of the supervisor only the socket
`SEAWALL_STANDBY_FD`. One message on that makes it a replica:

    {"environment": {...}, "fds": [NAME...]}     descriptors beside it; their numbers become NAME

When the socket closes it was not needed, or the supervisor is gone: it ends.
"""

import asyncio
import json
import os
import socket
from collections.abc import Mapping

from seawall.runtime.kernel import name_process

VARIABLE = "SEAWALL_STANDBY_FD"

# The identity of a replica is some 200 bytes; the rest of its environment it has already.
_LONGEST = 65536  # bytes

_MOST_FDS = 8


def tell(standby: socket.socket, environment: Mapping[str, str], fds: Mapping[str, int]) -> bool:
    """Make it that replica; False if it cannot be reached. `standby` does not block."""
    message = json.dumps({"environment": dict(environment), "fds": list(fds)}).encode() + b"\n"
    if len(message) > _LONGEST:
        return False
    try:
        return socket.send_fds(standby, [message], list(fds.values())) == len(message)
    except OSError:
        return False


async def told(call: socket.socket) -> dict[str, str] | None:
    """Wait for the message; the variables that make a replica, or None if none will be."""
    message, received = b"", list[int]()
    while not message.endswith(b"\n"):
        await _readable(call)
        try:
            data, fds, _, _ = socket.recv_fds(call, _LONGEST, _MOST_FDS)
        except ConnectionResetError:
            return None
        if not data:
            return None
        message += data
        received += fds
    said = json.loads(message)
    numbers = dict(zip(said["fds"], map(str, received), strict=True))
    return {**said["environment"], **numbers}


async def _readable(call: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(call, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(call)


def run(target: str) -> int:
    """What the process does; the exit status."""
    # 0.6 s, which a parent has spent already
    from seawall.service.rehearsal import rehearse
    from seawall.service.serve import serve

    async def identity() -> bool:
        await rehearse()
        with socket.socket(fileno=int(os.environ.pop(VARIABLE))) as call:
            variables = await told(call)
        if variables is None:
            return False
        os.environ.update(variables)
        name_process(variables["SEAWALL_INSTANCE_ID"])
        return True

    return serve(target, identity)
