"""Settling what was received from SQS: ten receipts a call, the calls side by side."""

import asyncio
from collections.abc import Sequence

from seawall.errors import Unavailable
from seawall.messaging.transports.sqs_entries import BATCH
from seawall.messaging.transports.sqs_link import Link
from seawall.messaging.transports.sqs_reader import Hold


async def in_batches(
    link: Link, operation: str, holds: Sequence[Hold], beside: dict[str, int]
) -> list[Hold]:
    """Make calls of ten; return the ones SQS refuses because it no longer knows them."""
    by_url: dict[str, list[Hold]] = {}
    for hold in holds:
        by_url.setdefault(hold.url, []).append(hold)
    batches = [
        (url, same[start : start + BATCH])
        for url, same in by_url.items()
        for start in range(0, len(same), BATCH)
    ]
    answers = await asyncio.gather(
        *(_one_batch(link, operation, url, batch, beside) for url, batch in batches)
    )
    return [hold for gone in answers for hold in gone]


async def _one_batch(
    link: Link, operation: str, url: str, batch: Sequence[Hold], beside: dict[str, int]
) -> list[Hold]:
    entries = [
        {"Id": str(n), "ReceiptHandle": hold.handle, **beside} for n, hold in enumerate(batch)
    ]
    answer = await link.call("sqs", operation, QueueUrl=url, Entries=entries)
    failed = answer.get("Failed", ())
    for each in failed:
        if not each.get("SenderFault"):
            raise Unavailable(f"{operation}: {each.get('Code')}")
    return [batch[int(each["Id"])] for each in failed]
