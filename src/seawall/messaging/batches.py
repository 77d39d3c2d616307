"""What a batch handler says about each of its messages. Pure."""

from collections.abc import Sequence

from seawall.messaging.base import Delivery
from seawall.messaging.outcomes import Reject, Retry

Outcome = Exception | None


def outcomes_of(result: object, batch: Sequence[Delivery]) -> Sequence[Outcome]:
    """One outcome a message: None, or how it failed.

    None instead of a list means that all are done. What is neither is the handler's mistake, and
    all of them failed: nobody knows what it wanted to say.
    """
    if result is None:
        return [None] * len(batch)
    if (
        isinstance(result, Sequence)
        and len(result) == len(batch)
        and all(outcome is None or isinstance(outcome, Exception) for outcome in result)
    ):
        return result
    mistake = TypeError(
        f"a batch handler returns None or {len(batch)} outcomes, not {result!r:.200}"
    )
    return [mistake] * len(batch)


def gravest(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome that says most about what handlers need: an error, else a wish, else none."""
    found: Outcome = None
    for outcome in outcomes:
        if outcome is not None and not isinstance(outcome, (Retry, Reject)):
            return outcome
        found = found or outcome
    return found
