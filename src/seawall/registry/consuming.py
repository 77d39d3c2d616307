"""What an instance consumes, in its registry record: topics and groups. Pure.

So whoever operates messages need not ask a broker which groups there are: some cannot tell.
"""

from collections.abc import Iterable, Mapping

import msgspec

from seawall.topology import Instance

_KEY = "consumes"

Named = tuple[str, str]  # topic and group

_decode = msgspec.json.Decoder(list[Named]).decode


def consuming(named: Iterable[Named]) -> Mapping[str, str]:
    """The metadata of an instance with these subscriptions; empty if there are none."""
    listed = sorted(set(named))
    return {_KEY: msgspec.json.encode(listed).decode()} if listed else {}


def consumed(instances: Iterable[Instance]) -> dict[Named, set[str]]:
    """All topics and groups that running instances consume, each with its services."""
    found: dict[Named, set[str]] = {}
    for instance in instances:
        try:
            listed = _decode(instance.metadata.get(_KEY, "[]"))
        except msgspec.MsgspecError:  # another program's idea of it
            continue
        for named in listed:
            found.setdefault(named, set()).add(instance.service)
    return found
