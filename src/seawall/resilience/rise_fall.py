"""Active health checks: what a row of passed and failed ones says.

One failed check is a lost packet, and one that passes is no recovery: an instance is unhealthy
after `unhealthy` failures in a row, and healthy again after `healthy` passes in a row. It begins
healthy: it has just said so itself, to the registry.
"""

from seawall.errors import Misconfigured


class RiseFall:
    """The verdict on one instance. Raises `Misconfigured`."""

    __slots__ = ("_row", "fall", "healthy", "rise")

    def __init__(self, fall: int = 3, rise: int = 2) -> None:
        if fall < 1 or rise < 1:
            raise Misconfigured("unhealthy and healthy are checks in a row: 1 or more")
        self.fall: int = fall
        self.rise: int = rise
        self.healthy: bool = True
        self._row: int = 0  # checks in a row that speak against the verdict

    def checked(self, passed: bool) -> bool:
        """Count a check; whether the verdict changed by it."""
        if passed == self.healthy:
            self._row = 0
            return False
        self._row += 1
        if self._row < (self.fall if self.healthy else self.rise):
            return False
        self.healthy = passed
        self._row = 0
        return True

    def __repr__(self) -> str:
        return f"<RiseFall {'healthy' if self.healthy else 'unhealthy'}, {self._row} against it>"
