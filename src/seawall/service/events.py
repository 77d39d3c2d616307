"""Events with a type: a pydantic model that knows its topic.

    class OrderPlaced(Event, topic="order.placed"):
        order_id: str

A handler may name a model without a topic too (`@orders.on("order.placed")`); the topic on the
class only saves writing it twice.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from seawall.errors import Misconfigured


class Event(BaseModel):
    """Something that happened, as its publisher tells it. Immutable.

    Fields that a receiver does not know are ignored, so that publishers may add some.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    topic: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, *, topic: str = "", **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if topic:
            cls.topic = topic

    def __init_subclass__(cls, *, topic: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)


def topic_of(event: object) -> str:
    """The topic of an event or an event's class; raises `Misconfigured` where it has none."""
    if isinstance(event, str):
        return event
    topic = getattr(event, "topic", "")
    if not isinstance(topic, str) or not topic:
        kind = event if isinstance(event, type) else type(event)
        raise Misconfigured(
            f"{kind.__name__} has no topic",
            fix=f'class {kind.__name__}(Event, topic="...") or name the topic in the call',
        )
    return topic
