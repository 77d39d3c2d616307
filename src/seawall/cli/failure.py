"""Exit statuses, and how an error is told: what, why, how to fix it."""

import json
import sys

from seawall.errors import Misconfigured, SeawallError

FAILED = 1  # the operation ran and failed
USAGE = 2  # wrong words or configuration; nothing was touched
UNREACHABLE = 3  # the project is not running
TIMED_OUT = 4
PARTIAL = 5  # some of several targets failed
REFUSED = 6  # refused for safety
INTERRUPTED = 130
TERMINATED = 143


class Failure(Exception):
    """A command cannot do what was asked."""

    def __init__(
        self,
        message: str,
        *,
        why: str | None = None,
        fix: str | None = None,
        status: int = FAILED,
        code: str = "Failure",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.why = why
        self.fix = fix
        self.status = status
        self.code = code


def report(error: SeawallError | Failure, *, as_json: bool) -> int:
    """Tell it on stderr; the exit status."""
    failure = error if isinstance(error, Failure) else _from(error)
    if as_json:
        told = {
            "schema": "seawall.error/1",
            "code": failure.code,
            "message": failure.message,
            "why": failure.why,
            "fix": failure.fix,
        }
        print(json.dumps(told), file=sys.stderr)
        return failure.status
    label = "error" if failure.code == "Failure" else f"error[{failure.code}]"
    print(f"{label}: {failure.message}", file=sys.stderr)
    for name, text in (("why", failure.why), ("fix", failure.fix)):
        if text:
            print(f"  {name}: {text}", file=sys.stderr)
    return failure.status


def _from(error: SeawallError) -> Failure:
    code = type(error).__name__
    if isinstance(error, Misconfigured):
        return Failure(error.reason, fix=error.fix, status=USAGE, code=code)
    return Failure(str(error), status=FAILED, code=code)


def interrupted() -> int:
    print(file=sys.stderr)
    return INTERRUPTED
