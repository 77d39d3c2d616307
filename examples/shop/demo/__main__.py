"""`make demo`: customers, a 10x spike, kill -9 in turn; then the books.

    --rate R       requests a second outside of the spike (default 20)
    --seconds S    of load (default 30)
    --seed N       of arrivals, choices and victims

Exit status 0 only if no accepted order was lost, none was charged twice, and stock and money add
up. The figures also go to build/demo.json.
"""

import argparse
import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seawall.clock import SYSTEM
from seawall.load.report import Report, Sample, summarize
from shop.demo.books import Accepted, Books, audit
from shop.demo.customers import Plan, visit
from shop.demo.doors import DemoFailed, register, settle, skus
from shop.demo.scaling import Scaling, scaling
from shop.demo.shop import Shop, running_shop

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "build"
FACTOR = 10  # of the spike
CUSTOMERS = 12
SETTLE_WITHIN = 180.0  # seconds until every order has ended; some brokers are slow

# At which share of the load's time whom to kill; the spike is from 0.4 to 0.6.
FAULTS: tuple[tuple[float, str], ...] = (
    (0.15, "orders"),
    (0.28, "payments"),
    (0.42, "inventory"),
    (0.52, "gateway"),
    (0.62, "orders"),
    (0.70, "recommendations"),
    (0.80, "payments"),
)
SCALED = "orders"  # by itself
STOPPED = "recommendations"  # is not killed but stopped, and stays away


def main() -> int:
    options = _options()
    began = SYSTEM.now()

    def say(text: str) -> None:
        print(f"  {SYSTEM.now() - began:5.1f} s  {text}", flush=True)

    print("The shop: services, gateway and customers on this machine, and faults on purpose.")
    try:
        with running_shop(BUILD / "demo") as shop:
            say(f"ready: {len(shop.ps())} processes, {shop.memory() / 1e6:.0f} MB together")
            opened = SYSTEM.wall()
            result = _trade(shop, options, say)
            say("waiting until every order has ended")
            ledgers, settled = settle(shop, SETTLE_WITHIN)
            say(f"at rest after {settled:.1f} s" if settled is not None else "never came to rest")
            replicas, restarts, memory = len(shop.ps()), shop.restarts(), shop.memory()
            scaled = scaling(shop.explained(SCALED), opened, SYSTEM.wall())
    except DemoFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    books = audit([Accepted(*promise) for promise in result["accepted"]], ledgers)
    report = summarize([Sample(**sample) for sample in result["samples"]])
    figures = {
        "offered": result["offered"],
        **{k: v for k, v in asdict(books).items() if k != "problems"},
        "availability_first": round(report.availability_first, 6),
        "availability_retry": round(report.availability_retry, 6),
        "p50_ms": round(report.p50 * 1000, 2),
        "p99_ms": round(report.p99 * 1000, 2),
        "requests": report.scheduled,
        "lag_p99_ms": round(report.lag_p99 * 1000, 2),
        "replicas": replicas,
        "restarts": restarts,
        "memory_mb": round(memory / 1e6),
        "seconds": round(SYSTEM.now() - began, 1),
        "scaling": {**asdict(scaled), "saved": round(scaled.saved, 4)},
    }
    (BUILD / "demo.json").write_text(json.dumps(figures, indent=2) + "\n")
    _print(figures, books, report, result["samples"])
    _print_scaling(scaled)
    verdict = "the books are clean" if books.clean else "the books are NOT clean"
    if not books.accepted:
        verdict = "NO order was accepted"
    print(f"\n  {verdict}; figures in build/demo.json")
    # Clean books of a shop that sold nothing prove nothing.
    return 0 if books.clean and books.accepted else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="The shop under load.")
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def _trade(shop: Shop, options: argparse.Namespace, say: Any) -> dict[str, Any]:
    """Let the customers in, and the faults happen; return what the customers saw."""
    gateway = shop.address("gateway")
    plan = Plan(
        host=gateway[0],
        port=gateway[1],
        tokens=register(gateway, CUSTOMERS),
        skus=skus(gateway, without=["gold-spoon"]),
        seed=options.seed,
        rate=options.rate,
        seconds=options.seconds,
        factor=FACTOR,
    )
    say(
        f"{CUSTOMERS} customers; {plan.rate:g} requests/s for {plan.seconds:g} s, "
        f"{plan.rate * FACTOR:g}/s in the middle"
    )
    began = SYSTEM.now()
    faults = threading.Thread(target=_faults, args=(shop, plan.seconds, began, say), daemon=True)
    faults.start()
    seen = visit(plan)
    faults.join()
    say("the customers have gone")
    return seen


def _faults(shop: Shop, seconds: float, began: float, say: Any) -> None:
    pause = threading.Event()
    for share, victim in FAULTS:
        pause.wait(max(0.0, began + share * seconds - SYSTEM.now()))
        if victim == STOPPED:
            shop.scale(victim, 0)
            say(f"{victim} stopped, for good")
        else:
            say(f"kill -9 {shop.kill(victim)}")


def _print(
    figures: dict[str, Any], books: Books, report: Report, samples: list[dict[str, Any]]
) -> None:
    rows = [
        ("orders offered", figures["offered"]),
        ("accepted", books.accepted),
        ("completed", books.completed),
        ("declined", f"{books.declined}, of which compensated {books.compensated}"),
        ("lost", books.lost),
        ("charged twice", books.charged_twice),
        ("mails", books.mails),
        ("requests", f"{report.scheduled} scheduled, all counted"),
        ("available at first", f"{report.availability_first:.3%}"),
        ("after a retry", f"{report.availability_retry:.3%}"),
        ("p50 / p99", f"{figures['p50_ms']:.1f} / {figures['p99_ms']:.1f} ms"),
        ("generator's lag", f"{figures['lag_p99_ms']:.1f} ms p99{' (void)' * report.void}"),
        ("processes", f"{figures['replicas']}, {figures['restarts']} restarts"),
        ("memory", f"{figures['memory_mb']} MB, shared pages counted once"),
        ("seconds", figures["seconds"]),
    ]
    print()
    for name, value in rows:
        print(f"  {name:<20} {value}")
    failures: dict[str, int] = {}
    for sample in samples:
        if not sample["first_ok"]:
            what = f"{sample['kind']}: {sample['detail']}"
            failures[what] = failures.get(what, 0) + 1
    for what, count in sorted(failures.items(), key=lambda item: -item[1])[:6]:
        print(f"    first attempt failed  {count:>4} x {what}")
    for problem in books.problems[:10]:
        print(f"    does not add up: {problem}")


def _print_scaling(scaled: Scaling) -> None:
    saved = f"{scaled.hours:.3f} instance-hours, {scaled.fixed_hours:.3f} of a fixed fleet"
    print(
        f"\n  {scaled.service}, scaled by itself: {saved} at its maximum ({scaled.saved:.0%} saved)"
    )
    for change in scaled.changes:
        print(f"    {change.after:5.1f} s  {change.was} -> {change.now}  {change.reason}")
    if not scaled.changes:
        print(f"    it never changed; at its busiest: {scaled.busiest}")


if __name__ == "__main__":
    sys.exit(main())
