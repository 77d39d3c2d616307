"""What decorators say about how handlers are run."""

from datetime import UTC, datetime, timedelta

import pytest

from seawall import Ordered
from seawall.errors import Misconfigured
from seawall.messaging.consumer import ConsumerConfig
from seawall.service.declaring import LINGER, consumer_config, delay_until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_rules_lie_over_the_usual_configuration_or_a_given_one() -> None:
    assert consumer_config(None, {}) == ConsumerConfig()
    assert consumer_config(None, {"concurrency": 3}).concurrency == 3
    given = ConsumerConfig(lease=60, concurrency=5)
    assert consumer_config(given, {"rate": 2.5}) == ConsumerConfig(
        lease=60, concurrency=5, rate=2.5
    )


def test_order_is_yes_no_or_with_its_own_rules() -> None:
    assert consumer_config(None, {"ordered": True}).ordered == Ordered()
    assert consumer_config(None, {"ordered": False}).ordered is None
    skipping = Ordered(then="skip")
    assert consumer_config(None, {"ordered": skipping}).ordered == skipping


def test_batches_are_handled_one_at_a_time_unless_said_otherwise() -> None:
    config = consumer_config(None, {"batch": 50})
    assert (config.batch, config.concurrency, config.linger) == (50, 1, LINGER)
    assert config.most == 100
    assert consumer_config(None, {"batch": 50, "concurrency": 2}).concurrency == 2


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(Misconfigured):
        consumer_config(None, {"speed": 5})  # type: ignore[typeddict-unknown-key]


def test_when_a_message_is_due() -> None:
    assert delay_until(None, 5, NOW.timestamp()) == 5
    assert delay_until(NOW + timedelta(hours=1), 0, NOW.timestamp()) == 3600
    assert delay_until(NOW - timedelta(hours=1), 0, NOW.timestamp()) == 0
    with pytest.raises(Misconfigured, match="no time zone"):
        delay_until(datetime(2026, 3, 1), 0, 0)  # noqa: DTZ001 - on purpose
    with pytest.raises(Misconfigured, match="say the same"):
        delay_until(NOW, 5, 0)
