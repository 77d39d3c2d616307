"""What CORS does on a route: it answers preflights, and says in every answer who may read it.

First of the filters: a preflight carries no credential, so authentication would refuse it, and a
refusal that a page may not read looks to it as if the gateway were away.
"""

from typing import TYPE_CHECKING, Final

from seawall.gateway.answers import Answer, Flag
from seawall.gateway.cors import Cors, Policy, wanted_method
from seawall.wire.headers import tokens
from seawall.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from seawall.gateway.exchange import Exchange

_REQUEST_HEADERS: Final = b"access-control-request-headers"


class AllowOrigins:
    """A filter for the route's part in CORS."""

    __slots__ = ("_policy",)

    def __init__(self, cors: Cors, methods: tuple[str, ...]) -> None:
        self._policy: Policy = Policy(cors, methods)

    def __call__(self, exchange: "Exchange", now: float) -> Answer | None:
        head, policy = exchange.head, self._policy
        origins = head.values(b"origin")
        if not wanted_method(head):
            exchange.tell(policy.answer(origins))
            return None
        if not policy.allows(origins):
            return Answer(
                status=403,
                flag=Flag.UNAUTHORIZED,
                detail="pages of this origin may not ask here",
                headers=policy.answer(origins),
            )
        asked = tokens(b",".join(head.values(_REQUEST_HEADERS)))
        fields = policy.preflight(origins, asked)
        return Answer(status=204, flag=Flag.NONE, detail="", headers=fields, body=b"")


class OneVoice:
    """A finisher that takes out what the service says about CORS: two answers are none."""

    __slots__ = ()

    def __call__(self, exchange: "Exchange", head: ResponseHead) -> None:
        prefix = b"access-control-"
        head.lines = [line for line in head.lines if line[: len(prefix)].lower() != prefix]
