"""As much of WebSocket framing as a client needs that only listens. Pure."""

_CLOSE, _PING, _PONG = 0x8, 0x9, 0xA
_FINAL, _MASKED = 0x80, 0x80

# Control frames carry at most this (RFC 6455, 5.5).
_MOST_OF_CONTROL = 125  # bytes


class Closed(Exception):
    """The other side said goodbye; `code` says why, 1005 where it does not."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Frames:
    """Takes bytes as they come and drops what is said but for its end."""

    def __init__(self) -> None:
        self._held = b""

    def receive(self, data: bytes) -> bytes:
        """What is to be sent in answer: a pong for each ping. Raises `Closed` at a Close."""
        self._held += data
        answers = b""
        while (frame := self._next()) is not None:
            opcode, payload = frame
            if opcode == _CLOSE:
                raise Closed(int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005)
            if opcode == _PING:
                said = payload[:_MOST_OF_CONTROL]
                # A mask of zeros is a mask, and changes nothing.
                answers += bytes((_FINAL | _PONG, _MASKED | len(said))) + bytes(4) + said
        return answers

    def _next(self) -> tuple[int, bytes] | None:
        held = self._held
        if len(held) < 2:
            return None
        size, at = held[1] & 0x7F, 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            size, at = int.from_bytes(held[2 : 2 + wide], "big"), 2 + wide
        if len(held) < at + size:
            return None
        self._held = held[at + size :]
        return held[0] & 0x0F, held[at : at + size]
