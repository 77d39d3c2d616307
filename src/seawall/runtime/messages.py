"""What an operator can ask and do about messages.

The supervisor answers these questions through its admin API. Where there is none, as on a cluster,
the command line asks the same objects, which work on the broker directly.
"""

from collections.abc import Mapping

from seawall.clock import SYSTEM, Clock
from seawall.runtime.admin import Answerer
from seawall.runtime.dead_letters import DeadLetters
from seawall.runtime.message_reach import Reach
from seawall.runtime.queues import Queues


def message_routes(
    messages_url: str, registry_url: str | None, *, clock: Clock = SYSTEM
) -> Mapping[tuple[str, str], Answerer]:
    """The part of the admin API that is about the messages at a URL. `registry_url` tells what
    running services consume, and what is paused."""
    reach = Reach(messages_url, registry_url, clock=clock)
    return {**DeadLetters(reach).routes(), **Queues(reach).routes()}
