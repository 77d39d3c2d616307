"""What is said at the terminal when something happens. Pure: facts in, lines out."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from seawall.identity.credentials import CertificateUnusable
from seawall.runtime.autoscaler import Scaled
from seawall.runtime.canary import TrialEnded
from seawall.runtime.embedded import why_it_died
from seawall.runtime.fleets import ServiceLeftOut
from seawall.runtime.identities import RenewalFailed
from seawall.runtime.memory_limits import ReplicaTooLarge
from seawall.runtime.nursery import ParentLost, ParentUnfit
from seawall.runtime.recipes import ForkedAlone
from seawall.runtime.registration import RegistryBack, RegistryLost
from seawall.runtime.replica import (
    Kind,
    ReplicaDied,
    ReplicaGivenUp,
    ReplicaHung,
    ReplicaReady,
    ReplicaUnready,
    SuccessorFailed,
)
from seawall.runtime.stages import (
    ProjectReady,
    ProjectStopped,
    ProjectStopping,
    ProjectWaiting,
    Stage,
    TookOver,
)
from seawall.runtime.watching import FilesChanged

# Whose lines these are, among those of instances.
NARRATOR = "seawall"


# What follows the name in a terminal of 100 columns, beside names of up to 20.
_WIDTH = 76

# A first start that took longer than this is worth a line of its own.
_SLOW = 5.0  # seconds


def is_routine(fact: object, stage: Stage) -> bool:
    """Whether a person who watches need not be told: in a start, each replica's getting ready.
    What is not ready is told by and by, and in the end that all are."""
    return stage is Stage.STARTING and isinstance(fact, ReplicaReady) and fact.after < _SLOW


def tell(fact: object) -> list[str]:
    """The lines for `fact`; none for what is of no interest to a person who watches."""
    told = _TELL.get(type(fact))
    return [] if told is None else told(fact)


def _project_ready(fact: ProjectReady) -> list[str]:
    gap = "\N{NO-BREAK SPACE}"  # a service and its number are not parted at a line's end
    counted = [name if count == 1 else f"{name}{gap}x{count}" for name, count in fact.services]
    text = f"ready in {fact.after:.1f} s:  {'  '.join(counted) or 'no services'}"
    lines = textwrap.wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    told = [line.replace(gap, " ") for line in lines]
    return [*told, f"gateway  {fact.url}"] if fact.url else told


def _project_waiting(fact: ProjectWaiting) -> list[str]:
    return [
        f"not ready after {fact.after:.0f} s:",
        *(f"  {why}" for _, why in fact.reasons),
    ]


def _replica_ready(fact: ReplicaReady) -> list[str]:
    return [f"{fact.place.instance_id} ready after {fact.after:.2f} s"]


def _replica_unready(fact: ReplicaUnready) -> list[str]:
    return [f"{fact.place.instance_id} is not ready any more: {fact.reason}"]


def _replica_died(fact: ReplicaDied) -> list[str]:
    delay = fact.verdict.delay
    again = "starting it again" if delay == 0 else f"starting it again in {delay:.1f} s"
    loop = ", it keeps dying" if fact.verdict.looping else ""
    head = f"{fact.place.instance_id} {fact.exit} after {fact.ran_for:.1f} s{loop}; {again}"
    # The rest of what it said has just been shown, and `seawall ps` keeps it.
    last = next((line for line in reversed(fact.last_words) if line.strip()), "")
    why = last if not fact.was_ready else ""
    if fact.place.kind is Kind.SERVER:
        why = why_it_died(fact.last_words) or why
    return [f"{head}: {why}" if why else head]


def _successor_failed(fact: SuccessorFailed) -> list[str]:
    last = next((line for line in reversed(fact.last_words) if line.strip()), "")
    head = f"the successor of {fact.place.instance_id} {fact.reason}; the one before goes on"
    return [f"{head}: {last}" if last else head]


def _given_up(fact: ReplicaGivenUp) -> list[str]:
    name = fact.place.instance_id
    return [f"{name} is {fact.reason}; when it is mended: seawall restart {name}"]


def _too_large(fact: ReplicaTooLarge) -> list[str]:
    uses, may = (f"{size / 1e6:.0f} MB" for size in (fact.memory, fact.limit))
    return [f"{fact.place.instance_id} uses {uses} of memory and may use {may}; replacing it"]


def _files_changed(fact: FilesChanged) -> list[str]:
    first, *others = (path.name for path in fact.paths)
    more = f" and {len(others)} more" if others else ""
    return [f"{fact.service}: {first}{more} changed; reloading"]


def _left_out(fact: ServiceLeftOut) -> list[str]:
    return [f"{fact.service} is left out: {fact.command} is not installed here"]


def _forked_alone(fact: ForkedAlone) -> list[str]:
    return [f"{fact.service} starts without a warm parent of its own: {fact.reason}"]


_TELL: Mapping[type, Callable[[Any], list[str]]] = {
    ProjectReady: _project_ready,
    ProjectWaiting: _project_waiting,
    ProjectStopping: lambda fact: [f"stopping ({fact.why}); once more to stop at once"],
    TookOver: lambda fact: [f"{fact.processes} processes of a supervisor that was killed go on"],
    ProjectStopped: lambda fact: [f"stopped in {fact.after:.1f} s"],
    ReplicaReady: _replica_ready,
    ReplicaUnready: _replica_unready,
    ReplicaDied: _replica_died,
    SuccessorFailed: _successor_failed,
    ReplicaGivenUp: _given_up,
    FilesChanged: _files_changed,
    ReplicaTooLarge: _too_large,
    ReplicaHung: lambda fact: [f"{fact.place.instance_id} does not live: {fact.reason}; ending it"],
    ServiceLeftOut: _left_out,
    ForkedAlone: _forked_alone,
    ParentUnfit: lambda fact: [f"services start slowly: {fact.reason}"],
    ParentLost: lambda fact: ["the parent of all services died; starting another, and them"],
    RenewalFailed: lambda fact: [f"no new certificate for {fact.name}: {fact.reason}"],
    CertificateUnusable: lambda fact: [f"{fact.us}: {fact.reason}"],
    RegistryLost: lambda fact: [f"the registry does not answer: {fact.reason}"],
    Scaled: lambda fact: [f"{fact.service}: {fact.was} -> {fact.now} replicas ({fact.reason})"],
    TrialEnded: lambda fact: [
        f"{fact.service} {fact.version}".rstrip() + f" was {fact.verdict}: {fact.reason}"
    ],
    RegistryBack: lambda fact: ["the registry answers again"],
}
