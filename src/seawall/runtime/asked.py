"""What a service is asked, as its spec has it, and what it is asked where that says nothing."""

from collections.abc import Mapping
from dataclasses import replace

from seawall.runtime.asking import At
from seawall.runtime.probe import Overheard, Probe, exec_probe, http_probe, tcp_probe
from seawall.runtime.process import Process
from seawall.runtime.replica import Started
from seawall.runtime.thresholds import ProbeConfig
from seawall.spec.probes import ProbeSpec
from seawall.spec.project import ServiceSpec

# A Seawall service tells the registry of itself; what we ask it is only shown. Once more at once
# after a failure, since one slow answer is no illness.
_SERVICE = ProbeConfig(period=5.0, failure_threshold=2, again=0.0)
# A command's readiness is what routes requests to it.
_COMMAND = ProbeConfig(period=1.0, failure_threshold=2, again=0.0)

# A loop that answered nothing for a quarter of a minute hangs: what blocks it so long by mistake
# (a synchronous call) is cut short by timeouts of its own before that. It is asked when the time
# for its start is over, since an import turns no loop.
_LIVE = ProbeConfig(period=5.0, failure_threshold=3)
_LIVE_TIMEOUT = 5.0  # seconds


class Asked:
    """The probes of one service."""

    def __init__(self, spec: ServiceSpec, folder: str) -> None:
        self._spec = spec
        self._folder = folder
        probes, is_command = spec.probes, spec.command is not None
        self.startup = _config(probes.startup)
        self.readiness = _config(probes.readiness) or (_COMMAND if is_command else _SERVICE)
        # Of a command we do not know what it answers while it lives.
        watched = None if is_command else replace(_LIVE, initial_delay=spec.start_within)
        self.liveness = _config(probes.liveness) or watched

    def started(self, process: Process, at: At, environment: Mapping[str, str]) -> Started:
        """The process with its questions."""
        probes, health = self._spec.probes, self._spec.health

        def question(probe: ProbeSpec | None, path: str) -> Probe | None:
            return None if probe is None else self._question(probe, path, at, environment)

        readiness = question(probes.readiness, health)
        liveness = question(probes.liveness, "/livez")
        if liveness is None and self.liveness is not None:
            # A process that says whether it is ready has turned its loop: with a hundred of them
            # each question that need not be asked counts.
            alive = Overheard(http_probe(at, "/livez", _LIVE_TIMEOUT, any_answer=True))
            liveness = alive.probe
            if readiness is None:
                readiness = alive.listening(http_probe(at, health))
        return Started(
            process,
            readiness or http_probe(at, health),
            question(probes.startup, health),
            liveness,
        )

    def _question(
        self, probe: ProbeSpec, path: str, at: At, environment: Mapping[str, str]
    ) -> Probe:
        if probe.exec is not None:
            return exec_probe(probe.exec, environment, self._folder, probe.timeout)
        if probe.tcp:
            return tcp_probe(at.address, probe.timeout)
        return http_probe(at, probe.path or path, probe.timeout)


def _config(probe: ProbeSpec | None) -> ProbeConfig | None:
    if probe is None:
        return None
    return ProbeConfig(
        initial_delay=probe.initial_delay,
        period=probe.period,
        success_threshold=probe.success_threshold,
        failure_threshold=probe.failure_threshold,
    )
