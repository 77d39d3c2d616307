"""What the admin API answers about messages. Pure: shapes only grow, under one schema name."""

import math
from base64 import b64encode
from collections.abc import Collection, Mapping
from typing import Any

from seawall.errors import Misconfigured, SeawallError
from seawall.messaging.base import Caps, DeadLetter, Lag, Message, Subscription, Waiting
from seawall.messaging.failures import taken_apart
from seawall.messaging.grouping import Deaths
from seawall.registry.pauses import Pause

# Of a body in a list; all of it is shown where one message is asked for.
PREVIEW = 4_096  # bytes


def _place(subscription: Subscription) -> dict[str, Any]:
    return {"topic": subscription.topic, "group": subscription.group}


def _body(message: Message, most: int | None) -> dict[str, Any]:
    shown = message.body[:most]
    text: str | None
    try:
        text = shown.decode()
    except UnicodeDecodeError as error:
        # A character that the preview cut in two is none of its own.
        cut = len(shown) < len(message.body) and error.start >= len(shown) - 3
        text = shown[: error.start].decode() if cut else None
    return {
        "size": len(message.body),
        "truncated": len(shown) < len(message.body),
        "text": text,
        "base64": b64encode(shown).decode(),
    }


def _known(at: float) -> float | None:
    return round(at, 3) if at else None


def cause_row(deaths: Deaths) -> dict[str, Any]:
    cause = deaths.cause
    return {
        **_place(cause.subscription),
        "reason": cause.reason,
        "error": cause.error,
        "place": cause.place or None,
        "count": deaths.count,
        "first_at": _known(deaths.first_at),
        "last_at": _known(deaths.last_at),
        "example": deaths.example.letter_id,
    }


def letter_row(letter: DeadLetter) -> dict[str, Any]:
    """One of many: without its body and stack."""
    said, _ = taken_apart(letter.error)
    return {
        "id": letter.letter_id,
        "message_id": letter.message.id,
        **_place(letter.subscription),
        "reason": letter.reason,
        "error": said,
        "attempts": letter.attempts,
        "failed_at": _known(letter.failed_at),
        "died_at": _known(letter.died_at),
        "edited_at": _known(letter.edited_at),
    }


def whole_letter_row(letter: DeadLetter) -> dict[str, Any]:
    _, stack = taken_apart(letter.error)
    return {
        **letter_row(letter),
        "stack": stack or None,
        "key": letter.message.key,
        "headers": dict(letter.message.headers),
        "body": _body(letter.message, None),
    }


def waiting_row(waiting: Waiting) -> dict[str, Any]:
    return {
        "message_id": waiting.message.id,
        "attempts": waiting.attempts,
        "published_at": _known(waiting.published_at),
        "key": waiting.message.key,
        "headers": dict(waiting.message.headers),
        "body": _body(waiting.message, PREVIEW),
    }


def pause_row(pause: Pause) -> dict[str, Any]:
    return {"since": round(pause.since, 3), "by": pause.by or None, "why": pause.why or None}


def queue_row(
    subscription: Subscription,
    lag: Lag,
    caps: Caps,
    rates: tuple[float | None, float | None],
    pause: Pause | None,
    services: Collection[str],
) -> dict[str, Any]:
    """One line of `seawall queues ls`; null where the broker does not tell."""
    published, taken = rates
    return {
        **_place(subscription),
        "services": sorted(services),
        "ready": lag.ready,
        "in_flight": lag.in_flight,
        "delayed": lag.delayed if caps.counts_delayed else None,
        "dead": lag.dead,
        "oldest_age_s": None if math.isnan(lag.oldest_age) else round(lag.oldest_age, 3),
        "published_per_s": published,
        "taken_per_s": taken,
        "paused": None if pause is None else pause_row(pause),
    }


def rates(before: Lag, after: Lag, seconds: float) -> tuple[float | None, float | None]:
    """Published to the topic and taken by the group, a second; None where nobody counts."""

    def rate(was: int | None, now: int | None) -> float | None:
        if was is None or now is None or seconds <= 0:
            return None
        return round(max(0, now - was) / seconds, 1)

    return rate(before.published, after.published), rate(before.taken, after.taken)


def error_row(error: SeawallError) -> Mapping[str, Any]:
    """What went wrong in the middle of a stream of answers."""
    code = type(error).__name__
    if isinstance(error, Misconfigured):
        return {"code": code, "message": error.reason, "fix": error.fix}
    return {"code": code, "message": str(error), "fix": None}
