"""Who comes to which arm of a split."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.errors import Misconfigured
from seawall.gateway.config import GatewayConfig, Route
from seawall.gateway.gateway import Gateway, Known, Static
from seawall.gateway.splitting import Share, Splitter
from seawall.gateway.traffic import Arm, Split, When
from seawall.topology import Address, Instance, InstanceState

WEIGHTS = st.lists(st.integers(0, 1000), min_size=2, max_size=5).filter(any)
KEYS = st.binary(max_size=40)


def instance(name: str) -> Instance:
    return Instance(
        service=name,
        version="1.0.0",
        instance_id=f"{name}-1",
        incarnation="1",
        address=Address("127.0.0.1", 9),
        state=InstanceState.READY,
    )


def splitter(
    weights: dict[str, int], *, up: str = "", fallback: bool = True, experiment: str = "test"
) -> Splitter:
    """As a gateway makes it of arms called so; services called as in `up` have an instance."""
    arms = tuple(Arm(service=name, name=name, weight=weight) for name, weight in weights.items())
    split = Split(arms=arms, fallback=fallback, experiment=experiment)
    gateway = Gateway(GatewayConfig(routes=(Route(split=split),)), Static())
    gateway.clusters.update(Known(tuple(map(instance, up))), 0.0)
    found = gateway.proxy.routes.entries[0].value.split
    assert found is not None
    return found


def nearest(weights: list[int], key: bytes) -> int:
    shares = [Share("test", f"arm {number}", weight) for number, weight in enumerate(weights)]
    return min(range(len(shares)), key=lambda number: shares[number].distance(key))


@pytest.mark.parametrize("weights", [[90, 10], [1, 1], [70, 20, 10], [0, 3, 1], [999, 1]])
def test_shares_are_those_of_the_weights(weights: list[int]) -> None:
    count = 20_000
    found = Counter(nearest(weights, b"user %d" % number) for number in range(count))
    for number, weight in enumerate(weights):
        part = weight / sum(weights)
        # Four standard deviations. The keys are always the same, so it always passes, or never.
        assert abs(found[number] - count * part) <= 4 * (count * part * (1 - part)) ** 0.5


@given(weights=WEIGHTS, key=KEYS, more=st.integers(1, 1000), data=st.data())
def test_more_weight_brings_keys_to_its_arm_and_moves_nobody_else(
    weights: list[int], key: bytes, more: int, data: st.DataObject
) -> None:
    raised = data.draw(st.integers(0, len(weights) - 1))
    before = nearest(weights, key)
    weights[raised] += more
    assert nearest(weights, key) in (before, raised)


@given(weights=WEIGHTS, key=KEYS, by=st.integers(2, 50))
def test_only_the_proportion_counts(weights: list[int], key: bytes, by: int) -> None:
    assert nearest(weights, key) == nearest([weight * by for weight in weights], key)


def test_who_is_in_the_canary_stays_there_as_it_grows() -> None:
    keys = [b"user %d" % number for number in range(2000)]
    inside: set[bytes] = set()
    for percent in (1, 5, 10, 20, 50, 99):
        now = {key for key in keys if nearest([100 - percent, percent], key) == 1}
        assert inside < now
        inside = now


def test_gateways_agree_whatever_the_order_of_the_arms() -> None:
    one = splitter({"a": 5, "b": 3, "c": 2}, up="abc")
    other = splitter({"c": 2, "a": 5, "b": 3}, up="abc")
    keys = [b"%d" % number for number in range(300)]
    assert [one.nearest(key).name for key in keys] == [other.nearest(key).name for key in keys]


def test_experiments_are_independent_of_each_other() -> None:
    one = splitter({"a": 1, "b": 1}, up="ab", experiment="one")
    other = splitter({"a": 1, "b": 1}, up="ab", experiment="other")
    keys = [b"%d" % number for number in range(1000)]
    alike = sum(one.nearest(key).name == other.nearest(key).name for key in keys)
    assert 400 < alike < 600


def test_the_others_stand_in_for_an_arm_without_an_instance() -> None:
    weights = {"a": 2, "b": 1, "c": 1}
    all_up, without_b = splitter(weights, up="abc"), splitter(weights, up="ac")
    alone = splitter(weights, up="ac", fallback=False)
    none_up = splitter(weights)
    seen = set()
    for number in range(300):
        key = b"%d" % number
        wanted = all_up.nearest(key).name
        stands_in = without_b.nearest(key).name
        assert stands_in == wanted if wanted != "b" else stands_in in "ac"
        assert alone.nearest(key).name == none_up.nearest(key).name == wanted
        seen.add((wanted, stands_in))
    assert seen == {("a", "a"), ("c", "c"), ("b", "a"), ("b", "c")}


def test_nobody_comes_to_an_arm_without_weight() -> None:
    split = splitter({"a": 1, "b": 0}, up="b")
    assert {split.nearest(b"%d" % number).name for number in range(100)} == {"a"}


ARMS = (Arm(service="a", weight=1), Arm(service="b"))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Arm(service=""), "no service"),
        (lambda: Arm(service="a", weight=-1), "weight -1"),
        (lambda: Arm(service="a", name="a\r\nb"), "is no name"),
        (lambda: Arm(service="a", name="n" * 65), "is no name"),
        (lambda: When(headers={"a b": "1"}), "no name of a field"),
        (lambda: Split(arms=ARMS[:1]), "1 arms"),
        (lambda: Split(arms=ARMS * 9), "18 arms"),
        (lambda: Split(arms=ARMS[:1] * 2), "called alike"),
        (lambda: Split(arms=(ARMS[1], Arm(service="c"))), "no arm has a weight"),
        (lambda: Split(arms=ARMS, cookie="a;b"), "no name of a cookie"),
        (lambda: Split(arms=ARMS, cookie_ttl=-1), "cookie_ttl is -1"),
        (lambda: Route(split=Split(arms=ARMS), service="a"), "goes to 2 places"),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, why: str) -> None:
    assert callable(make)
    with pytest.raises(Misconfigured, match=why):
        make()
