"""A test that cannot be ended ends its process, and says where it stood.

The time limit of a test raises an error in it, once. Where the cleaning up hangs then, or the event
loop in C while it closes (a transport that a failed test left open keeps it turning), nothing ends
the test any more, nor the run. Some time later a thread in C writes all stacks and ends the
process; a worker is replaced by another, and the run goes on with the test counted as failed.
"""

import faulthandler
from collections.abc import Iterator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key  # behind what pytest captures

GRACE = 30.0  # seconds that a test which ran out of time has to clean up


def limit(item: pytest.Item) -> float:
    """The seconds that `item` may take, its fixtures included; 0 = as many as it likes."""
    said = item.get_closest_marker("timeout")
    return float(said.args[0] if said is not None else item.config.getini("timeout"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    stderr = item.config.stash[fault_handler_stderr_fd_key]
    most = limit(item)
    if most:
        faulthandler.dump_traceback_later(most + GRACE, exit=True, file=stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
