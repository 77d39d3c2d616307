"""The environment of a service process. Pure: what is inherited is an argument."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from seawall.runtime.program import Program
from seawall.topology import Address

# What one process is told; where a supervisor was itself started so, its children must not be.
_PER_PROCESS = frozenset(
    {
        *("SEAWALL_INSTANCE_ID", "SEAWALL_INCARNATION", "SEAWALL_LISTEN_FD", "SEAWALL_READY_FD"),
        *("SEAWALL_PROBE_FD", "SEAWALL_STANDBY_FD", "SEAWALL_TLS", "SEAWALL_TLS_FILE"),
        *("HOST", "PORT", "SEAWALL_ADMIN"),
    }
)


def same(program: Program, wanted: Program, terminal: Mapping[str, str]) -> bool:
    """Whether it runs what is wanted, with the same settings. What its environment holds of the
    `terminal` in which somebody typed `seawall up` differs from one to the next."""
    ours = {n for n in wanted.environment if n.startswith("SEAWALL_") or n not in terminal}
    return (program.call, program.arguments, program.folder) == (
        *(wanted.call, wanted.arguments, wanted.folder),
    ) and all(
        program.environment.get(name) == wanted.environment[name] for name in ours - _PER_PROCESS
    )


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the shared servers are."""

    registry: str
    messages: str
    sessions: str


def with_own_programs(inherited: Mapping[str, str], interpreter: str) -> dict[str, str]:
    """The environment in which `python` and what is installed beside it are found first, so that
    `command = ["python", ...]` is the Python that Seawall runs on, activated or not."""
    folder = os.path.dirname(interpreter)
    path = inherited.get("PATH", os.defpath)
    others = [entry for entry in path.split(os.pathsep) if entry != folder]
    return {**inherited, "PATH": os.pathsep.join([folder, *others])}


def with_operator_token(inherited: Mapping[str, str], token: str) -> dict[str, str]:
    """The environment in which services take an operator's questions from this supervisor only."""
    name = "SEAWALL_OPERATOR_TOKEN"
    kept = {key: value for key, value in inherited.items() if key != f"{name}_FILE"}
    return {**kept, name: token}


def service_environment(
    inherited: Mapping[str, str],
    urls: Urls,
    *,
    declared: Mapping[str, str],
    database: str | None,
    drain: float,
) -> dict[str, str]:
    """What all replicas of a service share. What the project declares for it wins."""
    ours = {
        "SEAWALL_REGISTRY__URL": urls.registry,
        "SEAWALL_MESSAGES__URL": urls.messages,
        "SEAWALL_SESSIONS__URL": urls.sessions,
        "SEAWALL_DRAIN_SECONDS": f"{drain:g}",
        "PYTHONUNBUFFERED": "1",  # a log line that waits in a buffer is lost with its process
    }
    if database is not None:
        ours["SEAWALL_DATABASE__URL"] = database
    # The twin that names a file would win over ours.
    not_theirs = _PER_PROCESS | {f"{name}_FILE" for name in ours}
    kept = {name: value for name, value in inherited.items() if name not in not_theirs}
    return {**kept, **ours, **declared}


def replica_environment(
    shared: Mapping[str, str], *, instance_id: str, incarnation: str, address: Address | None
) -> dict[str, str]:
    """What one replica gets besides."""
    return {**shared, **identity(instance_id, incarnation, address)}


def identity(instance_id: str, incarnation: str, address: Address | None) -> dict[str, str]:
    """What makes it that replica and no other."""
    place = {"SEAWALL_INSTANCE_ID": instance_id, "SEAWALL_INCARNATION": incarnation}
    if address is not None:
        place |= {"HOST": address.host, "PORT": str(address.port)}
    return place
