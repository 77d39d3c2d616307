"""What one reader has asked JetStream for, and how much of it may still come. Pure.

Of each stream there may be two requests at a time: a pull of what is there, and behind it a wait
for one message. A message does not tell which of them brought it, so it is counted for the pull,
and what the wait brought can come before the end of the pull ahead of it. That end tells how much
the pull did not bring: whatever was counted beyond that was the wait's.
"""

import math

from seawall.messaging.transports.nats_protocol import Msg

# What the end of a pull tells of it; without this it brought nothing.
LACKING = "Nats-Pending-Messages"


class _Request:
    """Open until it is used up or the server ended it."""

    def __init__(self, name: str, batch: int, until: float = math.inf) -> None:
        self.name = name
        self.batch = batch
        self.left = batch
        self.until = until  # clock's seconds
        self.status = ""

    @property
    def over(self) -> bool:
        return self.left <= 0 or self.status != ""


class Pulls:
    """The open requests of one reader, by stream; `name` is the reader's own for each."""

    def __init__(self) -> None:
        self._pulls: dict[str, _Request] = {}
        self._waits: dict[str, _Request] = {}

    def clear(self) -> None:
        """They went with their connection."""
        self._pulls, self._waits = {}, {}

    def pull(self, stream: str, name: str, batch: int) -> None:
        """What is there was asked for."""
        self._pulls[stream] = _Request(name, batch)

    def wait(self, stream: str, name: str, until: float) -> None:
        """One message was asked for that may come until then."""
        self._waits[stream] = _Request(name, 1, until)

    def arrived(self, stream: str) -> None:
        """A message of this stream came."""
        request = self._pulls.get(stream)
        if request is None or request.left <= 0 or request.status:
            request = self._waits.get(stream)
        if request is not None:
            request.left -= 1

    def ended(self, end: Msg) -> None:
        """The server will send nothing (more) for a request, if it is one of now."""
        name = end.subject[end.subject.rfind(".") + 1 :]
        for request in self._waits.values():
            if request.name == name:
                request.status = end.status
        for stream, request in self._pulls.items():
            if request.name == name:
                request.status = end.status
                lacking = end.headers.get(LACKING, "")
                lacked = int(lacking) if lacking.isdecimal() else request.batch
                if (wait := self._waits.get(stream)) is not None:
                    wait.left -= max(0, lacked - request.left)

    @property
    def answered(self) -> bool:
        """All that was there has come."""
        return all(request.over for request in self._pulls.values())

    def waits_for(self, stream: str, now: float) -> bool:
        """The server would send a message of this stream as soon as there is one."""
        wait = self._waits.get(stream)
        return wait is not None and not wait.over and now <= wait.until

    def waiting(self, now: float) -> bool:
        """It would do so for some stream."""
        return any(self.waits_for(stream, now) for stream in self._waits)

    def ended_with(self, status: str) -> bool:
        return any(
            request.status == status
            for requests in (self._pulls, self._waits)
            for request in requests.values()
        )

    def __repr__(self) -> str:
        pulls = sum(not request.over for request in self._pulls.values())
        waits = sum(not request.over for request in self._waits.values())
        return f"<Pulls {pulls} pulls, {waits} waits>"
