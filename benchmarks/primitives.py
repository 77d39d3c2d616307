"""Nanoseconds per decision: limits, breakers, balancers, routes; beside peers where installed.

Ours take the time as an argument, their callers read it once per request; here it is read for
each decision, since the peers read it too. A peer that is not installed is named and left out.
"""

import asyncio
import contextlib
import importlib
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import Any

from benchmarks import report
from seawall.clock import SYSTEM
from seawall.concurrency.guard import Guard, Target
from seawall.gateway.config import Route
from seawall.gateway.routes import Routes
from seawall.resilience import limiter as limiter_module
from seawall.resilience.adaptive import Aimd, ConcurrencyLimit, Gradient2, Vegas
from seawall.resilience.balancing import Balancing, balancer
from seawall.resilience.breaker import Breaker
from seawall.resilience.budget import RetryBudget
from seawall.resilience.bulkhead import Bulkhead
from seawall.resilience.codel import CoDel
from seawall.resilience.hedge import Hedger
from seawall.resilience.limiter import Gcra, KeyedLimiter, TokenBucket
from seawall.resilience.locality import LocalityConfig, Member, plan
from seawall.resilience.outlier import Outliers
from seawall.resilience.peak_ewma import PeakEwma
from seawall.resilience.retry import RetryConfig
from seawall.resilience.sampling import Windowed
from seawall.resilience.shed import Importance, Partitions, Shedding
from seawall.resilience.sliding import KeyedWindow
from seawall.resilience.slow_start import SlowStart
from seawall.wire.http1 import RequestHead

PEERS = ("pybreaker", "purgatory", "limits")
ROUNDS = 7
ROUND = 0.05  # seconds; long beside a scheduler's slice, short beside a coffee

RATE = 10**7  # a second: no loop of ours is refused

COMPILED = (limiter_module.__file__ or "").endswith(".so")
SEAWALL = "seawall-compiled" if COMPILED else "seawall-interpreted"

monotonic = time.monotonic
Once = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    load: str
    subject: str
    once: Once


def measure(once: Once) -> list[float]:
    """Nanoseconds per call, of each round."""
    number, took = 1, 0.0
    while took < ROUND:
        number *= 2
        took = _loop(once, number)
    return [_loop(once, number) / number * 1e9 for _ in range(ROUNDS)]


def _loop(once: Once, number: int) -> float:
    start = time.perf_counter()
    for _ in itertools.repeat(None, number):
        once()
    return time.perf_counter() - start


def nothing() -> None:
    pass


def ours() -> list[Case]:
    closed, opened = Breaker(), Breaker()
    for _ in range(5):
        permit = opened.admit(monotonic())
        assert permit is not None
        opened.failed(permit, monotonic())

    def call() -> None:
        permit = closed.admit(monotonic())
        if permit is not None:
            nothing()
            closed.succeeded(permit, monotonic())

    def refuse() -> None:
        if opened.admit(monotonic()) is not None:
            raise AssertionError("the breaker is open")

    gcra, bucket = Gcra(RATE, RATE), TokenBucket(RATE, RATE)
    # Slow and with a large burst, so that keys stay in use; fast, so that each is new each time.
    in_use, unseen = KeyedLimiter(1000, RATE), KeyedLimiter(RATE, RATE)
    keys = itertools.cycle([f"10.0.0.{number}" for number in range(250)])
    in_window = KeyedWindow(RATE, 3600.0)
    instances = [f"orders-{n}" for n in range(8)]
    budget, outliers, bulkhead = RetryBudget(), Outliers(), Bulkhead(10)

    def slot() -> None:
        if bulkhead.try_acquire():
            bulkhead.release()

    return [
        Case("breaker closed, around a call", SEAWALL, call),
        Case("breaker open, refuses", SEAWALL, refuse),
        Case("limit by key, 250 keys", SEAWALL, lambda: in_use.acquire(next(keys), monotonic())),
        Case("limit by key, a new key", SEAWALL, lambda: unseen.acquire(next(keys), monotonic())),
        Case("limit, GCRA", SEAWALL, lambda: gcra.acquire(monotonic())),
        Case("limit, token bucket", SEAWALL, lambda: bucket.acquire(monotonic())),
        Case("limit by key, sliding", SEAWALL, lambda: in_window.acquire(next(keys), monotonic())),
        Case("outliers left out, 8 instances", SEAWALL, lambda: outliers.usable(instances, 0.0)),
        Case("retry budget, deposit", SEAWALL, lambda: budget.deposit(monotonic())),
        Case("retry budget, withdraw", SEAWALL, lambda: budget.withdraw(monotonic())),
        Case("bulkhead, a slot taken and given back", SEAWALL, slot),
        *balancers(),
        *admissions(),
        *routing(),
    ]


def routing() -> list[Case]:
    """The route of a request, of as many as there are, by literal prefixes and by parameters."""

    def head(path: str) -> RequestHead:
        return RequestHead(b"GET", path.encode(), b"", b"shop.example")

    def case(kind: str, path: str, number: int) -> Case:
        routes = [Route(service="a", path=path.format(n, id="{id}")) for n in range(number)]
        table = Routes(routes, lambda route: None)
        chosen = Random(1).choices(range(number), k=250)
        heads = itertools.cycle([head(path.format(n, id=n) + "/7") for n in chosen])
        return Case(f"route of {number:,}, {kind}", SEAWALL, lambda: table.find(next(heads)))

    return [
        case(kind, path, number)
        for kind, path in (("prefixes", "/api/r{}/items"), ("parameters", "/api/r{}/{id}/items"))
        for number in (10, 1_000, 10_000)
    ]


def balancers() -> list[Case]:
    """Each picks one of eight; their loads differ a little, so that consistent hashing moves on."""
    instances = [f"orders-{number}" for number in range(8)]
    load = {name: 10.0 + number for number, name in enumerate(instances)}.__getitem__
    weight = {name: 1.0 + number for number, name in enumerate(instances)}.__getitem__
    keys = itertools.cycle([f"user-{number}" for number in range(250)])
    ramp = SlowStart()
    members = [Member(name, zone="ab"[number % 2]) for number, name in enumerate(instances)]
    spread = plan(members, LocalityConfig(zone="a", callers={"a": 3, "b": 1}))
    chance = Random(1).random
    observed: PeakEwma[str] = PeakEwma(Random(1))

    def case(kind: Balancing) -> Case:
        one = balancer(kind, Random(1), weight, str)
        if isinstance(one, PeakEwma):
            for name in instances:
                one.observe(name, 0.01, 1.0)
        return Case(
            f"balancer {kind}, 8 instances",
            SEAWALL,
            lambda: one.pick(instances, load, (), next(keys)),
        )

    return [
        *map(case, Balancing),
        Case("peak EWMA, an answer", SEAWALL, lambda: observed.observe("a", 0.01, monotonic())),
        Case("slow start, a weight", SEAWALL, lambda: ramp.weight(1.0, 0.0, 10.0)),
        Case("zones, candidates drawn", SEAWALL, lambda: spread.draw(chance())),
    ]


def admissions() -> list[Case]:
    """Adaptive concurrency and what goes with it, of calls that take 10 ms."""
    partitions, shedding, rng = Partitions(100), Shedding(), Random(1)
    codel, hedger = CoDel(), Hedger()
    for _ in range(100):
        hedger.observe(0.01, monotonic())

    def place() -> None:
        if partitions.try_acquire(Importance.NORMAL):
            partitions.release(Importance.NORMAL)

    def sample(limit: ConcurrencyLimit) -> Case:
        name = f"concurrency limit, {type(limit).__name__}"
        return Case(name, SEAWALL, lambda: limit.sample(0.01, 15, False))

    windowed = Windowed(Gradient2())
    return [
        sample(Gradient2()),
        sample(Vegas(Random(1))),
        sample(Aimd()),
        Case(
            "concurrency limit, windowed",
            SEAWALL,
            lambda: windowed.sample(0.01, 15, False, monotonic()),
        ),
        Case("a class's place taken and given back", SEAWALL, place),
        Case(
            "shedding, a class in its band",
            SEAWALL,
            lambda: shedding.sheds(Importance.SHEDDABLE, 0.8, rng),
        ),
        Case(
            "CoDel, an item that waited shortly", SEAWALL, lambda: codel.drops(0.001, monotonic())
        ),
        Case("hedge, when to look again", SEAWALL, lambda: hedger.delay(monotonic())),
        Case("hedge, an answer", SEAWALL, lambda: hedger.observe(0.01, monotonic())),
    ]


def pybreaker_cases(pybreaker: Any) -> list[Case]:
    closed, opened = pybreaker.CircuitBreaker(), pybreaker.CircuitBreaker()
    opened.open()

    def refuse() -> None:
        with contextlib.suppress(pybreaker.CircuitBreakerError):
            opened.call(nothing)

    return [
        Case("breaker closed, around a call", "pybreaker", lambda: closed.call(nothing)),
        Case("breaker open, refuses", "pybreaker", refuse),
    ]


def purgatory_cases(purgatory: Any) -> list[Case]:
    factory = purgatory.SyncCircuitBreakerFactory(default_threshold=5, default_ttl=60)
    closed, opened = factory.get_breaker("closed"), factory.get_breaker("opened")
    for _ in range(5):
        with contextlib.suppress(KeyError), opened:
            raise KeyError

    def call() -> None:
        with closed:
            nothing()

    def refuse() -> None:
        with contextlib.suppress(purgatory.domain.model.OpenedState), opened:
            raise AssertionError("the breaker is open")

    return [
        Case("breaker closed, around a call", "purgatory", call),
        Case("breaker open, refuses", "purgatory", refuse),
    ]


def limits_cases(limits: Any) -> list[Case]:
    storage = limits.storage.MemoryStorage()
    item = limits.RateLimitItemPerSecond(RATE)
    window = limits.strategies.SlidingWindowCounterRateLimiter(storage)
    keys = itertools.cycle([f"10.0.0.{number}" for number in range(250)])
    return [Case("limit by key, 250 keys", "limits", lambda: window.hit(item, next(keys)))]


def peers() -> list[Case]:
    make = {
        "pybreaker": pybreaker_cases,
        "purgatory": purgatory_cases,
        "limits": limits_cases,
    }
    cases = []
    for name in PEERS:
        try:
            module = importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed: left out (pip install {name})", file=sys.stderr)
        else:
            cases += make[name](module)
    return cases


async def guarded(number: int) -> float:
    """Nanoseconds per call through every policy, the call being nothing."""
    target = Target("orders-1", (Breaker(), Breaker()), Bulkhead(10))
    guard = Guard(
        "orders",
        retry=RetryConfig(),
        budget=RetryBudget(),
        timeout=2.0,
        clock=SYSTEM,
        rng=Random(1),
    )

    async def call(key: str, limit: float) -> None:
        pass

    start = time.perf_counter()
    for _ in itertools.repeat(None, number):
        await guard.run(call, lambda _: target, idempotent=True)
    return (time.perf_counter() - start) / number * 1e9


def row(load: str, subject: str, rounds: list[float]) -> dict[str, str | float]:
    figures = {"ns": median(rounds), "ns_min": min(rounds), "ns_max": max(rounds)}
    return {"load": load, "subject": subject, **{name: round(ns) for name, ns in figures.items()}}


def main() -> None:
    rows = [row("an empty function", "python", measure(nothing))]
    cases = ours()
    order = {case.load: number for number, case in enumerate(cases)}
    cases = sorted(cases + peers(), key=lambda case: order[case.load])
    rows += [row(case.load, case.subject, measure(case.once)) for case in cases]
    rounds = [asyncio.run(guarded(5000)) for _ in range(ROUNDS)]
    rows.append(row("a call through every policy (async)", SEAWALL, rounds))
    columns = ("load", "subject", "ns", "ns_min", "ns_max")
    print(report.table("Nanoseconds per decision (median of rounds)", columns, rows))
    report.write("primitives", rows, report.versions(PEERS))


if __name__ == "__main__":
    main()
