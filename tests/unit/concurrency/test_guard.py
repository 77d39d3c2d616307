import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest

from seawall.concurrency.guard import FellBack, GaveUp, Guard, Retried, Target
from seawall.concurrency.tasks import Tasks
from seawall.errors import (
    BreakerOpen,
    DeadlineExceeded,
    Full,
    Misconfigured,
    NoInstance,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Refused,
    SeawallError,
)
from seawall.resilience.breaker import Breaker, BreakerConfig, BreakerMoved, State
from seawall.resilience.budget import RetryBudget
from seawall.resilience.bulkhead import Bulkhead
from seawall.resilience.deadline import Deadline
from seawall.resilience.retry import RetryConfig, Stop
from seawall.testing.clock import ManualClock
from tests.support.waiting import eventually, settle

TIMEOUT = 2.0

CLASSIC = BreakerConfig()
AT_TWO = BreakerConfig(consecutive_failures=2)

# What one try does: an error it raises, seconds it takes, or what it answers.
Step = BaseException | float | str


@dataclass
class Stage:
    """A destination of several instances that does as it is told, and a guard before it."""

    steps: list[Step] = field(default_factory=list)
    instances: Sequence[str] = ("a", "b", "c")
    attempts: int = 3
    floor: float = 1000.0
    breaker: BreakerConfig = CLASSIC
    places: int = 2

    def __post_init__(self) -> None:
        self.clock = ManualClock(now=0.0)
        self.facts: list[object] = []
        self.asked: list[str] = []
        self.limits: list[float] = []
        self.whole = Breaker(self.breaker, "stock")
        self.each = {name: Breaker(self.breaker, name) for name in self.instances}
        self.bulkhead = Bulkhead(self.places)
        self.budget = RetryBudget(ratio=0.0, floor=self.floor, window=1.0)
        # No wait but where somebody asks for one, so that most tests need no time.
        self.guard = Guard(
            "stock",
            retry=RetryConfig(attempts=self.attempts, base=0.0),
            budget=self.budget,
            timeout=TIMEOUT,
            clock=self.clock,
            rng=Random(1),
            observer=self.facts.append,
        )

    def target(self, tried: Sequence[str]) -> Target[str]:
        if not self.instances:
            raise NoInstance("no stock")
        fresh = [name for name in self.instances if name not in tried]
        name = (fresh or list(self.instances))[0]
        return Target(name, (self.whole, self.each[name]), self.bulkhead)

    async def call(self, key: str, limit: float) -> str:
        self.asked.append(key)
        self.limits.append(limit)
        step = self.steps.pop(0) if self.steps else "answer"
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, float):
            await self.clock.sleep(step)
            return "late answer"
        return step

    def run(
        self,
        *,
        idempotent: bool = True,
        deadline: Deadline | None = None,
        fallback: Callable[[SeawallError], Awaitable[str]] | None = None,
    ) -> Awaitable[str]:
        return self.guard.run(
            self.call,
            self.target,
            idempotent=idempotent,
            deadline=deadline,
            fallback=fallback,
        )

    async def through_time(self, run: Awaitable[str]) -> str:
        """Run to the end, moving the clock whenever all sleep."""
        async with Tasks() as tasks:
            task: asyncio.Task[str] = tasks.start(_as_coroutine(run))
            await settle()
            while not task.done():
                self.clock.advance(0.25)
                await settle()
            return task.result()

    def rows(self) -> dict[str, int]:
        """Failures in a row, by breaker."""
        breakers = [self.whole, *self.each.values()]
        return {b.name: b.snapshot(self.clock.now()).consecutive_failures for b in breakers}

    def taken(self) -> tuple[int, int]:
        """Places and probes that are not given back."""
        breakers = [self.whole, *self.each.values()]
        probing = sum(b.snapshot(self.clock.now()).probing for b in breakers)
        return self.bulkhead.snapshot().taken, probing


async def _as_coroutine(run: Awaitable[str]) -> str:
    return await run


async def other(error: SeawallError) -> str:
    return f"instead of: {error}"


# -- one try


async def test_an_answer_comes_through() -> None:
    stage = Stage(["hello"])
    assert await stage.run() == "hello"
    assert (stage.asked, stage.limits, stage.facts) == (["a"], [TIMEOUT], [])
    assert stage.taken() == (0, 0)


async def test_no_time_left_and_nobody_is_asked_not_even_the_fallback() -> None:
    stage = Stage()
    with pytest.raises(DeadlineExceeded, match="no time was left"):
        await stage.run(deadline=Deadline(0.0), fallback=other)
    assert stage.asked == []


async def test_a_try_is_ended_by_its_timeout() -> None:
    stage = Stage([5.0], attempts=1)
    with pytest.raises(OutcomeUnknown, match="no answer within 2 s"):
        await stage.through_time(stage.run())
    assert stage.clock.now() == TIMEOUT
    assert stage.rows() == {"stock": 1, "a": 1, "b": 0, "c": 0}
    assert stage.taken() == (0, 0)


async def test_a_try_is_ended_by_the_deadline_if_that_is_earlier() -> None:
    stage = Stage([5.0])
    with pytest.raises(DeadlineExceeded):
        await stage.through_time(stage.run(deadline=Deadline(1.5)))
    assert stage.limits == [1.5]
    assert stage.clock.now() == 1.5
    assert stage.rows()["a"] == 1


async def test_a_try_that_had_hardly_any_time_blames_nobody() -> None:
    stage = Stage([5.0])
    with pytest.raises(DeadlineExceeded):
        await stage.through_time(stage.run(deadline=Deadline(0.25)))
    assert stage.rows()["a"] == 0


async def test_a_timeout_of_the_calls_own_is_an_unknown_outcome() -> None:
    stage = Stage([TimeoutError("socket")], attempts=1)
    with pytest.raises(OutcomeUnknown) as caught:
        await stage.run()
    assert isinstance(caught.value.__cause__, TimeoutError)


# -- tries


async def test_a_retry_goes_elsewhere() -> None:
    stage = Stage([NotSent("refused"), OutcomeUnknown("reset"), "third time"])
    assert await stage.run() == "third time"
    assert stage.asked == ["a", "b", "c"]
    retried = [fact for fact in stage.facts if isinstance(fact, Retried)]
    assert [(fact.name, fact.number, str(fact.error)) for fact in retried] == [
        ("stock", 1, "refused"),
        ("stock", 2, "reset"),
    ]


async def test_with_one_instance_a_retry_goes_back_to_it() -> None:
    stage = Stage([NotSent("refused")], instances=["a"])
    assert await stage.run() == "answer"
    assert stage.asked == ["a", "a"]


async def test_the_last_error_is_raised_and_the_reason_is_a_fact() -> None:
    last = NotSent("third")
    stage = Stage([NotSent("first"), NotSent("second"), last])
    with pytest.raises(NotSent) as caught:
        await stage.run()
    assert caught.value is last
    assert GaveUp("stock", 3, last, Stop.ATTEMPTS) in stage.facts


@pytest.mark.parametrize("error", [Refused("no"), ValueError("bug"), Misconfigured("typo")])
async def test_what_is_final_is_tried_once_and_has_no_fallback(error: Exception) -> None:
    stage = Stage([error])
    with pytest.raises(type(error)):
        await stage.run(fallback=other)
    assert stage.asked == ["a"]
    assert stage.rows()["a"] == 0
    assert stage.taken() == (0, 0)


async def test_what_may_have_happened_is_tried_again_only_if_idempotent() -> None:
    stage = Stage([OutcomeUnknown("reset"), "fine"])
    with pytest.raises(OutcomeUnknown):
        await stage.run(idempotent=False)
    assert stage.asked == ["a"]


async def test_without_a_budget_there_is_no_retry() -> None:
    stage = Stage([NotSent("x"), NotSent("y")], floor=1.0)
    with pytest.raises(NotSent, match="y"):
        await stage.run()
    assert isinstance(stage.facts[-1], GaveUp)
    assert stage.facts[-1].why is Stop.BUDGET


async def test_a_guard_around_a_guard_does_not_multiply_tries() -> None:
    inner = Stage([OutcomeUnknown("reset") for _ in range(9)])
    outer = Stage()

    async def call(key: str, limit: float) -> str:
        return await inner.run()

    with pytest.raises(OutcomeUnknown) as caught:
        await outer.guard.run(call, outer.target, idempotent=True)
    assert caught.value.spent
    assert len(inner.asked) == 3
    assert outer.facts == [GaveUp("stock", 1, caught.value, Stop.SPENT)]


async def test_what_was_not_retried_is_not_spent() -> None:
    stage = Stage([OutcomeUnknown("reset")])
    with pytest.raises(OutcomeUnknown) as caught:
        await stage.run(idempotent=False)
    assert not caught.value.spent


async def test_the_budget_is_shared_by_all_calls() -> None:
    steps: list[Step] = [NotSent("x") for _ in range(100)]
    stage = Stage(steps, floor=5.0, breaker=BreakerConfig(consecutive_failures=999))
    for _ in range(10):
        with pytest.raises(NotSent):
            await stage.run()
    assert len(stage.asked) == 15


async def test_a_retry_after_is_waited_out() -> None:
    stage = Stage([RateLimited("429", retry_after=3.0), "fine"])
    assert await stage.through_time(stage.run()) == "fine"
    assert stage.clock.now() == 3.0


async def test_each_try_has_its_own_timeout_within_the_deadline() -> None:
    stage = Stage([5.0, 5.0, 5.0])
    with pytest.raises(DeadlineExceeded):
        await stage.through_time(stage.run(deadline=Deadline(3.0)))
    assert stage.limits == [2.0, 1.0]
    assert stage.clock.now() == 3.0


async def test_an_instance_that_comes_is_found_by_the_next_try() -> None:
    stage = Stage()
    stage.instances, later = (), stage.instances

    def target(tried: Sequence[str]) -> Target[str]:
        try:
            return stage.target(tried)
        finally:
            stage.instances = later

    assert await stage.guard.run(stage.call, target, idempotent=False) == "answer"


async def test_where_there_is_nobody_that_is_said() -> None:
    stage = Stage(instances=())
    with pytest.raises(NoInstance):
        await stage.run()
    assert stage.asked == []


async def test_time_that_ran_out_between_two_tries_is_said() -> None:
    stage = Stage([NotSent("busy", retry_after=1.0)])
    looks = []

    def target(tried: Sequence[str]) -> Target[str]:
        looks.append(tried)
        if len(looks) == 3:  # after the first try, and the look for another instance
            stage.clock.advance(10)  # finding out where to go took too long
        return stage.target(tried)

    run = stage.guard.run(stage.call, target, idempotent=True, deadline=Deadline(5.0))
    with pytest.raises(DeadlineExceeded, match="to ask again"):
        await stage.through_time(run)
    assert stage.asked == ["a"]


# -- breakers, and places


async def test_an_open_instance_is_passed_by_at_once() -> None:
    stage = Stage(breaker=AT_TWO)
    for _ in range(2):
        permit = stage.each["a"].admit(0.0)
        assert permit is not None
        stage.each["a"].failed(permit, 0.0)
    assert await stage.run(idempotent=False) == "answer"
    assert stage.asked == ["b"]
    assert stage.clock.now() == 0.0


async def test_an_open_service_is_not_asked_again_elsewhere() -> None:
    stage = Stage([NotSent("x"), NotSent("y")], breaker=AT_TWO)
    with pytest.raises(BreakerOpen, match="breaker of stock is open"):
        await stage.run()
    assert stage.asked == ["a", "b"]
    assert isinstance(stage.facts[-1], GaveUp)
    assert (stage.facts[-1].tries, stage.facts[-1].why) == (3, Stop.OPEN)


async def test_a_permit_of_the_service_is_given_back_when_the_instance_refuses() -> None:
    stage = Stage([NotSent("x")] * 2, instances=["a"], breaker=AT_TWO, attempts=1)
    for _ in range(2):
        with pytest.raises(NotSent):
            await stage.run()
    stage.clock.advance(60.0)
    stage.each["a"].admit(60.0)  # the one probe is taken by somebody else
    with pytest.raises(BreakerOpen, match="breaker of a is half-open"):
        await stage.run()
    assert stage.whole.state is State.HALF_OPEN
    assert stage.whole.snapshot(60.0).probing == 0


async def test_breakers_open_and_say_so_and_probe_and_close() -> None:
    stage = Stage([NotSent("x"), NotSent("y")], breaker=AT_TWO, instances=["a"], attempts=1)
    for _ in range(2):
        with pytest.raises(NotSent):
            await stage.run()
    with pytest.raises(BreakerOpen) as caught:
        await stage.run()
    assert caught.value.retry_after == 60.0
    assert len(stage.asked) == 2
    stage.clock.advance(60.0)
    assert await stage.run() == "answer"
    moves = [
        (fact.name, fact.was, fact.now) for fact in stage.facts if isinstance(fact, BreakerMoved)
    ]
    cycle = [State.CLOSED, State.OPEN, State.HALF_OPEN, State.CLOSED]
    for name in ("stock", "a"):
        steps = [(was, now) for which, was, now in moves if which == name]
        assert steps == list(itertools.pairwise(cycle))


async def test_a_refusal_is_an_answer_and_closes_a_breaker() -> None:
    stage = Stage(
        [NotSent("x"), NotSent("y"), Refused("no")], breaker=AT_TWO, instances=["a"], attempts=1
    )
    for _ in range(2):
        with pytest.raises(NotSent):
            await stage.run()
    stage.clock.advance(60.0)
    with pytest.raises(Refused):
        await stage.run()
    assert stage.each["a"].state is State.CLOSED


async def test_no_free_place_is_said_at_once_and_blames_nobody() -> None:
    stage = Stage([10.0], places=1, attempts=1)
    async with Tasks() as tasks:
        tasks.start(_as_coroutine(stage.run()))
        await eventually(lambda: stage.asked == ["a"])
        for _ in range(5):
            with pytest.raises(Full):
                await stage.run()
        assert stage.asked == ["a"]
        assert stage.rows() == {"stock": 0, "a": 0, "b": 0, "c": 0}
    assert stage.taken() == (0, 0)


async def test_without_breakers_and_places_it_is_just_a_call() -> None:
    stage = Stage([NotSent("x"), "fine"])
    run = stage.guard.run(stage.call, lambda _: Target("bare"), idempotent=True)
    assert await run == "fine"
    assert stage.asked == ["bare", "bare"]


# -- fallback


async def test_a_fallback_answers_for_the_last_error_and_that_is_a_fact() -> None:
    stage = Stage([NotSent("x"), NotSent("y"), NotSent("z")])
    assert await stage.run(fallback=other) == "instead of: z"
    assert isinstance(stage.facts[-1], FellBack)
    assert str(stage.facts[-1].error) == "z"


async def test_a_fallback_is_not_asked_when_there_is_an_answer() -> None:
    assert await Stage(["hello"]).run(fallback=other) == "hello"


# -- cancellation


async def cancelled_after(steps: int) -> tuple[Stage, bool]:
    """Cancel a guarded call after so many turns of the loop; say whether it was still running."""
    stage = Stage(
        [NotSent("busy", retry_after=1.0), 5.0, NotSent("gone")],
        breaker=BreakerConfig(consecutive_failures=1, open_for=1.0),
    )
    for breaker in (stage.whole, stage.each["a"]):
        permit = breaker.admit(-10.0)
        assert permit is not None
        breaker.failed(permit, -10.0)  # open, and cooled by now: the tries are probes

    async def slow(error: SeawallError) -> str:
        await stage.clock.sleep(1.0)
        return "instead"

    async with Tasks() as tasks:
        task = tasks.start(_as_coroutine(stage.run(fallback=slow)))
        for _ in range(steps):
            await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
            if stage.clock.sleeping:
                stage.clock.advance(0.25)
        running = not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == running
    return stage, running


async def test_cancelled_at_any_await_it_gives_everything_back() -> None:
    awaits = 0
    for steps in range(1, 500):
        stage, running = await cancelled_after(steps)
        assert stage.taken() == (0, 0), f"cancelled after {steps} turns"
        assert stage.clock.sleeping == 0
        if not running:
            break
        awaits += 1
    else:
        pytest.fail("the call never ended")
    assert awaits > 10


async def test_a_cancelled_probe_leaves_the_way_open_for_the_next() -> None:
    stage = Stage([NotSent("x"), NotSent("y"), 60.0], breaker=AT_TWO, instances=["a"], attempts=1)
    for _ in range(2):
        with pytest.raises(NotSent):
            await stage.run()
    stage.clock.advance(60.0)
    async with Tasks() as tasks:
        probe = tasks.start(_as_coroutine(stage.run()))
        await eventually(lambda: len(stage.asked) == 3)
        with pytest.raises(BreakerOpen):
            await stage.run()
        probe.cancel()
    assert await stage.run() == "answer"
    assert stage.each["a"].state is State.CLOSED
