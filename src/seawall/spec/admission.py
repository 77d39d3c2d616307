"""`[services.X.admission]`: how much a replica takes on at once, and which requests go first."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from seawall.spec.part import Part

# "/pay", "/reports/*" or "POST /orders".
Pattern = Annotated[str, StringConstraints(pattern=r"^([A-Z]+ )?/[^* ]*\*?$", max_length=200)]


class AdmissionSpec(Part):
    kind: Literal["gradient2", "vegas", "aimd", "fixed"] = "gradient2"
    initial: int = Field(default=20, ge=1, le=10_000)  # requests at once, to begin with
    minimum: int = Field(default=4, ge=1, le=10_000)
    maximum: int = Field(default=200, ge=1, le=10_000)
    window: float = Field(default=1.0, ge=0.1, le=60)  # seconds of answers that make one sample
    queue: int = Field(default=100, ge=0, le=10_000)  # requests that may wait
    wait: float = Field(default=0.5, gt=0, le=60)  # seconds, each of them at most
    critical: list[Pattern] = []  # these go first, and can fill half of the places for certain
    sheddable: list[Pattern] = []  # these are refused first, and do not wait

    @model_validator(mode="after")
    def _ordered(self) -> "AdmissionSpec":
        if not self.minimum <= self.initial <= self.maximum:
            raise ValueError(
                f"initial ({self.initial}) is from minimum ({self.minimum}) to maximum"
                f" ({self.maximum})"
            )
        return self
