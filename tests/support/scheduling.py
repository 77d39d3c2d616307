"""Which tests follow one another in one worker, when several workers share a run.

A file's tests do, since they may share what the file starts. The suites that run against every
broker would then be one long file on one worker, and another file about the same broker would
start that broker once more: so the tests of a broker follow one another instead.
"""

import re
from pathlib import PurePath

from xdist.scheduler.loadscope import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.support.brokers import MORE, USUAL

_PARAMETER = re.compile(rf"\[(?:.*-)?({'|'.join((*USUAL, *MORE))})(?:-.*)?\]$")
# Files of minutes, which would otherwise end last, alone. What checks types needs one core all the
# while, and these wait.
_LONG = re.compile("test_kills|integration/runtime/|architecture/test_(docs|check)")
_FILE = re.compile(rf"test_({'|'.join(MORE)})$")


def scope(test: str) -> str:
    """What `test`, a pytest node id, has to share a worker with."""
    file, _, name = test.partition("::")
    path = PurePath(file)
    if path.parent.name not in ("contract", "messaging"):
        return file
    found = _PARAMETER.search(name) if path.parent.name == "contract" else _FILE.match(path.stem)
    return found.group(1) if found else file


def turn(test: str) -> int:
    """When `test`, a pytest node id, comes: first what waits for processes, last what waits not."""
    kind = PurePath(test.partition("::")[0]).parts[1]
    if kind in ("e2e", "faults") or "/" not in scope(test) or _LONG.search(test):
        return 0
    if kind == "unit" and PurePath(test.partition("::")[0]).parts[2] in ("cli", "shop"):
        return 2  # whole programs
    return {"integration": 1, "contract": 1, "architecture": 2}.get(kind, 3)


class ByBroker(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)

    def remove_node(self, node: WorkerController) -> str | None:
        """The test during which a worker ended, if it did not end by itself. It has failed: the
        next worker would end of it too, and the one after that."""
        for tests in self.assigned_work.get(node, {}).values():
            for test, is_done in tests.items():
                if not is_done:
                    tests[test] = True
                    super().remove_node(node)
                    return test
        return super().remove_node(node)
