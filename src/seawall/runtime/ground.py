"""What everything that starts processes stands on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from seawall.clock import Clock
from seawall.facts import Observer
from seawall.runtime.environment import Urls
from seawall.runtime.launcher import Launcher, Pipe
from seawall.runtime.layout import Layout
from seawall.runtime.logs import LogStore
from seawall.runtime.nursery import Nursery
from seawall.runtime.process import Output, Process
from seawall.runtime.program import Program


@dataclass(frozen=True, slots=True)
class Ground:
    """What all recipes stand on, and how a process is started on it."""

    layout: Layout
    nursery: Nursery
    logs: LogStore
    urls: Urls
    inherited: Mapping[str, str]
    observer: Observer
    clock: Clock
    rng: Random

    async def launch(
        self,
        parent: Launcher,
        program: Program,
        sockets: Mapping[str, int],
        at_end: Callable[[], None] = lambda: None,
    ) -> Process:
        pipe = Pipe.open()
        output = Output(pipe.read, self.logs.sink(program.name))
        try:
            child = await parent.launch(program, pipe, sockets)
        except BaseException:
            output.close()
            raise
        return Process(child, output, self.clock, at_end)

    async def branch(self, parent: Launcher, program: Program, module: str) -> Launcher:
        pipe = Pipe.open()
        output = Output(pipe.read, self.logs.sink(program.name))
        try:
            return await parent.branch(program, pipe, [module])
        except BaseException:
            output.close()
            raise
