"""What a service is asked to learn whether it lives: `[services.X.probes.readiness]` and so on."""

from typing import Self

from pydantic import Field, model_validator

from seawall.spec.part import Part


class ProbeSpec(Part):
    """One question. It is `path` (an HTTP GET), `tcp` or `exec`; the fields have the meaning and
    the defaults of a Kubernetes probe."""

    path: str | None = None  # 200 to 399 is well
    tcp: bool = False  # it takes connections
    exec: list[str] | None = None  # this command ends with status 0
    initial_delay: float = Field(default=0.0, ge=0, le=3600)  # seconds
    period: float = Field(default=10.0, ge=0.1, le=3600)  # seconds between questions
    timeout: float = Field(default=1.0, gt=0, le=3600)  # seconds
    success_threshold: int = Field(default=1, ge=1, le=1000)  # good answers in a row
    failure_threshold: int = Field(default=3, ge=1, le=1000)  # bad answers in a row

    @property
    def asks(self) -> bool:
        """Whether it says itself what is asked."""
        return self.path is not None or self.tcp or self.exec is not None

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.path is not None) + self.tcp + (self.exec is not None) > 1:
            raise ValueError("a probe has one of path, tcp and exec")
        if self.path is not None and not self.path.startswith("/"):
            raise ValueError(f"path {self.path!r} does not start with /")
        if self.exec is not None and not self.exec:
            raise ValueError('exec is a command: ["pg_isready", "-q"]')
        return self


class ProbesSpec(Part):
    """`startup` holds the others back until it passed, and ends what does not start; `readiness`
    decides who gets requests; `liveness` ends what does not live."""

    startup: ProbeSpec | None = None
    readiness: ProbeSpec | None = None
    liveness: ProbeSpec | None = None

    @model_validator(mode="after")
    def _as_kubernetes(self) -> Self:
        for name in ("startup", "liveness"):
            probe: ProbeSpec | None = getattr(self, name)
            if probe is not None and probe.success_threshold != 1:
                raise ValueError(f"{name}.success_threshold is always 1, as on Kubernetes")
        return self
