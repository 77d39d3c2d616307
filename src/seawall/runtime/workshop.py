"""Where processes are made: what every recipe uses, and how their output comes to the logs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from seawall.clock import Clock
from seawall.facts import Observer
from seawall.runtime.environment import Urls
from seawall.runtime.launcher import Launcher, Pipe
from seawall.runtime.layout import Layout
from seawall.runtime.logs import LogStore, Read, plain
from seawall.runtime.nursery import Nursery
from seawall.runtime.process import Output, Process
from seawall.runtime.program import Program


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all recipes have in common, and how a process is started with it."""

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
        read: Read = plain,
    ) -> Process:
        pipe = Pipe.open()
        output = Output(pipe.read, self.logs.sink(program.name, read))
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
