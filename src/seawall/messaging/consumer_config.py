"""How one subscription is consumed: its numbers, and what its runtime tells about itself."""

from dataclasses import dataclass

from seawall.errors import Misconfigured
from seawall.messaging.ordering import Ordered
from seawall.resilience.breaker import BreakerConfig

# Messages held beside a batch handler's own are its next batch; more are no use.
BATCHES_HELD = 2

# A batch is one list in memory and one call; beyond this it is a job of its own.
LARGEST_BATCH = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerConfig:
    concurrency: int = 16  # messages (or batches) handled at the same time
    # Messages held, handled ones included. 0: as many as are handled within a second beside those
    # under way, at most four times `concurrency` (with `batch`: two batches for each).
    prefetch: int = 0
    lease: float = 30.0  # seconds; renewed at a third of it. After a crash others wait this long
    timeout: float = 300.0  # seconds a handler may run; checked when leases are renewed
    wait: float = 5.0  # seconds one fetch waits for a message
    drain: float = 10.0  # seconds running handlers get to finish when the consumer stops
    # Seconds of backlog without a delivery after which it connects anew; three looks each time.
    stalled_after: float = 30.0
    breaker: BreakerConfig | None = None  # failures that pause consumption; None: none do
    rate: float | None = None  # messages a second that this consumer handles at most
    ordered: Ordered | None = None  # messages of one key one after the other
    batch: int = 1  # messages handed to the handler at once, at most
    linger: float = 0.0  # seconds a batch that is not full waits for more

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.lease <= 0:
            raise Misconfigured(f"concurrency={self.concurrency}, lease={self.lease} s")
        if not self.stalled_after > 0:
            raise Misconfigured(f"stalled_after is above 0 seconds, not {self.stalled_after}")
        if self.rate is not None and not self.rate > 0:
            raise Misconfigured(f"rate is above 0 messages a second, not {self.rate}")
        if not 1 <= self.batch <= LARGEST_BATCH or not 0 <= self.linger < self.lease / 3:
            raise Misconfigured(
                f"batch={self.batch}, linger={self.linger} s make no batch",
                fix=f"1 <= batch <= {LARGEST_BATCH}, and linger below a third of the lease",
            )
        if self.batch > 1 and self.ordered is not None:
            raise Misconfigured(
                "a batch of messages is not handled one after the other",
                fix="ordered or batch, not both",
            )

    @property
    def most(self) -> int:
        """How many messages may be held."""
        usual = 4 * self.concurrency
        if self.batch > 1:
            usual = BATCHES_HELD * self.batch * self.concurrency
        return max(self.prefetch or usual, self.concurrency, self.batch)


@dataclass(frozen=True, slots=True)
class ConsumerSnapshot:
    buffered: int
    running: int
    settling: int
    away: bool  # the broker did not answer the last time
    fetching: bool  # false before the start, after the end, and if a defect ended it
    paused: bool = False  # its breaker is not closed
    stalled: int = 0  # messages that waited when nothing was delivered any more
