"""Messages that others wrote: CloudEvents in every mode and spelling become what ours are."""

from dataclasses import replace

from seawall.messaging.base import Delivery, Message
from seawall.messaging.outcomes import Undecodable
from seawall.wire.envelope import BadEnvelope, is_binary, to_binary


def understood(delivery: Delivery) -> Delivery:
    """The delivery with its message in binary mode, under the event's own id.

    The transport's message stays as it came, so that a dead letter is what was received. Raises
    `Undecodable` for a CloudEvent that cannot be read. A message that is no CloudEvent has the
    id that its transport gave it.
    """
    message = delivery.message
    if message.headers.get("ce-id") == message.id and is_binary(message.headers):
        return delivery
    try:
        headers, body = to_binary(message.headers, message.body)
    except BadEnvelope as wrong:
        raise Undecodable(str(wrong)) from None
    known = Message(headers.get("ce-id") or message.id, body, headers, message.key)
    return replace(delivery, message=known)
