"""The customers, in a process of their own: `python -m shop.demo.customers < plan > result`.

Open loop: each request starts when the seeded schedule says so. A failed attempt is repeated, an
order under the same Idempotency-Key, as a careful client does; both are counted.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from seawall.clock import SYSTEM
from seawall.errors import SeawallError
from seawall.load.generator import Attempted, Generator
from seawall.load.report import Sample
from seawall.load.schedule import arrivals, spike
from seawall.topology import Address
from seawall.transport.http1 import Answer, request_head
from seawall.transport.pool import Pool, PoolConfig
from shop.demo.doors import DemoFailed

GOOD_CARD = "4242424242424242"
DECLINED_CARD = "4000000000000002"
SHARE_DECLINED = 0.05

# Of a customer's requests: looking around, ordering, asking how an order goes.
WEIGHTS = {"browse": 50, "order": 35, "follow": 15}

WITHIN = 5.0  # seconds for one attempt
ATTEMPTS = 6
PAUSE = 0.25  # seconds before the second attempt; each further pause is twice as long


@dataclass(frozen=True, slots=True)
class Plan:
    host: str
    port: int
    tokens: list[str]  # of registered customers
    skus: list[str]
    seed: int
    rate: float  # requests a second outside of the spike
    seconds: float
    factor: float  # of the spike


@dataclass(slots=True)
class Result:
    samples: list[Sample] = field(default_factory=list)
    accepted: list[tuple[str, str]] = field(default_factory=list)  # order id, key
    offered: int = 0


class Customers:
    """Does what people do in a shop, and remembers what they were promised."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._authority = f"{plan.host}:{plan.port}"
        self._pool = Pool(Address(plan.host, plan.port), PoolConfig(limit=512, waiting=1024))
        self.result = Result()

    async def run(self) -> Result:
        plan = self._plan
        times = arrivals(spike(plan.rate, plan.seconds, factor=plan.factor), Random(plan.seed))
        self.result.samples = await Generator(times, self.act).run()
        self._pool.close()
        return self.result

    async def act(self, number: int) -> Attempted:
        rng = Random(f"{self._plan.seed}/{number}")
        kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if kind == "follow" and self.result.accepted:
            order_id, key = rng.choice(self.result.accepted[-50:])
            token = self._plan.tokens[int(key.rsplit("-", 1)[1])]
            headers = {"authorization": f"Bearer {token}"}
            return await self._ask("follow", "GET", f"/orders/{order_id}", headers)
        if kind == "order":
            return await self._order(number, rng)
        if rng.random() < 0.5:
            return await self._ask("browse", "GET", "/products", {})
        return await self._ask("browse", "GET", f"/products/{rng.choice(self._plan.skus)}", {})

    async def _order(self, number: int, rng: Random) -> Attempted:
        self.result.offered += 1
        customer = rng.randrange(len(self._plan.tokens))
        key = f"demo-{self._plan.seed}-{number}-{customer}"
        declined = rng.random() < SHARE_DECLINED
        lines = [
            {"sku": sku, "quantity": rng.randint(1, 3)}
            for sku in rng.sample(self._plan.skus, rng.randint(1, 2))
        ]
        body = json.dumps({"lines": lines, "card": DECLINED_CARD if declined else GOOD_CARD})
        headers = {
            "authorization": f"Bearer {self._plan.tokens[customer]}",
            "idempotency-key": key,
            "content-type": "application/json",
        }
        return await self._ask("order", "POST", "/orders", headers, body.encode())

    async def _ask(
        self, kind: str, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Attempted:
        first = ""
        for attempt in range(1, ATTEMPTS + 1):
            failure = await self._try(method, path, headers, body)
            if not failure:
                return Attempted(kind, attempt == 1, True, attempt, first)
            first = first or failure
            if attempt < ATTEMPTS:
                await SYSTEM.sleep(PAUSE * 2 ** (attempt - 1))
        return Attempted(kind, False, False, ATTEMPTS, first)

    async def _try(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
        """What went wrong, or nothing."""
        length = len(body) if body else None
        head = request_head(method, path, self._authority, headers.items(), length)
        try:
            answer = await self._pool.exchange(head, body, within=WITHIN, method=method)
        except SeawallError as error:
            return type(error).__name__
        if answer.status == 202:
            self._promised(answer, headers)
        return "" if answer.status < 300 else str(answer.status)

    def _promised(self, answer: Answer, headers: Mapping[str, str]) -> None:
        order_id = json.loads(answer.body)["order_id"]
        self.result.accepted.append((order_id, headers["idempotency-key"]))


def visit(plan: Plan) -> dict[str, Any]:
    """Let the customers of `plan` in, in a process of their own; return what they saw."""
    done = subprocess.run(
        [sys.executable, "-m", "shop.demo.customers"],
        input=json.dumps(asdict(plan)).encode(),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    if done.returncode:
        raise DemoFailed("the customers' process failed; see above")
    return dict(json.loads(done.stdout))


def main() -> None:
    plan = Plan(**json.load(sys.stdin))
    result: dict[str, Any] = asdict(uvloop.run(Customers(plan).run()))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
