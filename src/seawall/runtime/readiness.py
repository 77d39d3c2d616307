"""Which services hold up the others. Pure."""

from collections.abc import Collection, Mapping, Sequence


def holding_up(needs: Mapping[str, Collection[str]], unready: Collection[str]) -> Sequence[str]:
    """The services that are not ready though all they need is: look at these first.

    Everything starts at the same time and waits for nobody, so services that need each other do
    not wait for ever; where every unready service needs another unready one, all are returned.
    """
    waiting = sorted(unready)
    first = [name for name in waiting if not set(needs.get(name, ())) & set(waiting)]
    return first or waiting
