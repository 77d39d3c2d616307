"""Records in Valkey that another version of Seawall wrote."""

import json

from seawall.registry.valkey import _read, _written
from tests.unit.registry.instances import instance


def test_a_record_comes_back_as_it_was_written() -> None:
    one = instance(zone="b", priority=2, weight=50, loop_lag=0.5, in_flight=3)
    assert _read(_written(one)) == one


def test_a_record_from_before_there_were_zones_has_none() -> None:
    lasting, measured = _written(instance(zone="b", priority=2)).split(b"\n")
    fields = json.loads(lasting)
    del fields["zone"], fields["priority"]
    assert _read(json.dumps(fields).encode() + b"\n" + measured) == instance()
