"""For other supervisors: a systemd unit that keeps Seawall's own running, and a Procfile."""

import math
import shlex
import signal
from collections.abc import Sequence

from seawall.deploy.workload import CLOSING, Workload
from seawall.spec.project import Spec

TERMINATED = 128 + signal.SIGTERM

HEADING = "# Made by `seawall deploy {what}`; change seawall.toml instead.\n"


def systemd(spec: Spec, workloads: Sequence[Workload], *, folder: str, program: str) -> str:
    """A unit that runs `seawall up` for the project in `folder`, whose replicas, reloads and
    scaling stay Seawall's; systemd starts it with the machine and after a crash."""
    longest = max(workload.drain + workload.closing for workload in workloads)
    profile = f" --profile {shlex.quote(spec.profile)}" if spec.profile else ""
    return f"""{HEADING.format(what="systemd")}
[Unit]
Description={spec.project.name}, by Seawall
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User={spec.project.name}
WorkingDirectory={folder}
# Secrets: a line NAME=VALUE each, readable by root only.
EnvironmentFile=-/etc/{spec.project.name}.env
ExecStart={program} up{profile}
Restart=always
RestartSec=1
# Seawall tells its children itself. Those of one that was killed serve on until the next has them,
# or end by themselves.
KillMode=process
TimeoutStopSec={math.ceil(longest + CLOSING)}
# What it ends with when it was told to.
SuccessExitStatus={TERMINATED}
LimitNOFILE=65536
NoNewPrivileges=yes
PrivateTmp=yes
ProtectHome=read-only
ProtectSystem=strict
ReadWritePaths={folder}

[Install]
WantedBy=multi-user.target
"""


def procfile(spec: Spec, workloads: Sequence[Workload]) -> str:
    """One line a process, for hosts and tools that take a Procfile; they set PORT, and run each
    line with a shell in the project's folder."""
    lines = (f"{workload.name}: {_line(spec, workload)}\n" for workload in workloads)
    return HEADING.format(what="procfile") + "".join(lines)


def _line(spec: Spec, workload: Workload) -> str:
    command = shlex.join(workload.command)
    folder = "." if workload.is_gateway else spec.services[workload.name].cwd
    return command if folder == "." else f"cd {shlex.quote(folder)} && exec {command}"
