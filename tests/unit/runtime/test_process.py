import os

import pytest

from seawall.runtime.process import LAST_WORDS, Exit, Output
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, "exited with status 0"),
        (3, "exited with status 3"),
        (-9, "killed by SIGKILL"),
        (-64 - 30, "killed by signal 94"),
        (None, "ended with its parent"),
    ],
)
def test_an_exit_says_how(status: int | None, said: str) -> None:
    assert str(Exit(status)) == said


async def test_output_is_cut_into_lines_and_the_last_are_kept() -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    lines: list[str] = []
    output = Output(read, lines.append)
    for number in range(50):
        os.write(write, f"line {number}\r\n".encode())
    os.write(write, b"\xff broken, and without an end")
    os.close(write)
    await output.closed
    assert lines[0] == "line 0"
    assert lines[-1] == "\ufffd broken, and without an end"
    assert len(output.last_words) == LAST_WORDS
    output.close()


async def test_a_line_without_end_costs_no_memory() -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    lines: list[str] = []
    output = Output(read, lines.append)
    for _ in range(8):
        os.write(write, b"x" * 8000)
        await eventually(lambda: len(output._partial) <= 16 * 1024)
    await eventually(lambda: len(lines) >= 3)
    os.close(write)
    await output.closed
    assert sum(map(len, lines)) == 64000
