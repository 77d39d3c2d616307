import asyncio

from seawall.errors import Unavailable
from seawall.service.health import CACHED_FOR, Check, Health, Status, overall
from seawall.testing.clock import ManualClock


async def test_a_result_is_kept_for_a_second_and_shared() -> None:
    clock, asked = ManualClock(), []

    async def probe() -> None:
        asked.append(clock.now())
        await asyncio.sleep(0)  # noqa: TID251 - lets the other callers come

    check = Check("a", probe, needed=False, within=1.0, clock=clock)
    await asyncio.gather(check.result(), check.result(), check.result())
    assert len(asked) == 1
    clock.advance(CACHED_FOR + 0.01)
    assert (await check.result()).status is Status.PASS
    assert len(asked) == 2


async def test_failing_is_a_result() -> None:
    async def slow() -> None:
        await asyncio.Event().wait()

    def gone() -> None:
        raise Unavailable("the printer is out of paper")

    for probe, says in (
        (slow, "no answer within 0.01 s"),
        (gone, "the printer is out of paper"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: False, "the check returned False"),
    ):
        for needed, status in ((True, Status.FAIL), (False, Status.WARN)):
            result = await Check("a", probe, needed=needed, within=0.01).result()
            assert (result.status, result.output) == (status, says)


async def test_only_needed_checks_make_unready() -> None:
    health = Health()
    health.add(Check("shared", lambda: False, needed=False, within=1.0))
    assert await health.unready() == []
    health.add(Check("own", lambda: False, needed=True, within=1.0))
    assert await health.unready() == ["own: the check returned False"]
    assert overall(await health.results()) is Status.FAIL
    health.add(Check("own", lambda: None, needed=True, within=1.0))
    assert overall(await health.results()) is Status.WARN
    assert overall([]) is Status.PASS
