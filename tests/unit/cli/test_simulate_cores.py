"""Parts of a simulation, in this process and in those of other cores."""

import subprocess
import sys

from seawall.cli.simulate import Alone
from seawall.cli.simulate_cores import play_on_all_cores
from seawall.scaling.simulate import Model
from seawall.scaling.trace import SHAPES

NAMES = ("keda", "surge", "fixed", "kpa")


def part(name: str) -> Alone:
    return Alone(name, SHAPES["flash"](300.0, 5.0, 600.0), Model(), 1, 7, 1.0)


def test_each_part_is_what_it_is_alone_and_the_end_is_told() -> None:
    told: list[float] = []
    played = play_on_all_cores([part(name) for name in NAMES], told.append)
    assert played == [part(name).play(lambda steps: None) for name in NAMES]
    assert len({run.score.hours for run in played}) == len(NAMES)
    assert told == sorted(told)
    assert told[-1] == 1


OTHERS = """
from seawall.cli.simulate_cores import play_on_all_cores
from tests.unit.cli.test_simulate_cores import NAMES, part

if __name__ == "__main__":
    parts, told = [part(name) for name in NAMES], []
    alone = [one.play(lambda steps: None) for one in parts]
    assert play_on_all_cores(parts, told.append, worth=0.0) == alone
    assert told == sorted(told) and 0 <= told[0] <= told[-1] <= 1
"""


def test_so_it_is_in_other_processes() -> None:
    """In a process of its own, for whose life multiprocessing keeps one more."""
    done = subprocess.run([sys.executable, "-c", OTHERS], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_looks_more_often_is_begun_sooner() -> None:
    costs = {name: part(name).costs for name in NAMES}
    assert costs["surge"] > costs["kpa"] > costs["keda"] > costs["fixed"]
