"""[parts] of station.toml: how a part is named, and how it is found again at the rejecter. Knows no camera, no PLC."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from segdec_edge.config.load import Settings


class RejectConfig(Settings):
    """[parts.reject]: where the rejecter stands.

    by: what a position counts: "encoder" its ticks, "count" the steps (pockets, or parts at a sensor of the line) that
    a counter of the line tells, with or without a trigger at each. distance: from trigger to rejecter, in those.
    tolerance: how far a part may lie from where it is expected (slip, trigger jitter), to either side; less than half
    of the least distance between two parts. capacity: parts between trigger and rejecter that are kept apart at most.
    max_step: how far the counter can move between two looks at it; more is a jump (a reset), and all on the way is
    rejected; by default distance.
    """

    by: Literal["encoder", "count"]
    distance: int = Field(ge=1, le=2**31)
    tolerance: int = Field(default=0, ge=0)
    capacity: int = Field(default=1024, ge=1, le=100_000)
    max_step: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _tolerance_fits(self) -> RejectConfig:
        if self.by == "encoder" and self.tolerance == 0:
            raise ValueError(
                "tolerance is 0, wanted at least one tick: no part comes exactly. Set it to the slip and jitter that"
                " the line allows."
            )
        if self.tolerance >= self.distance:
            raise ValueError(
                f"tolerance is {self.tolerance}, wanted less than distance ({self.distance}). Correct one of them."
            )
        return self


class PartsConfig(Settings):
    """[parts]: identity is what names a part to the line: "trigger" our own count, "encoder" the encoder's value at the
    trigger, "given" an id that the PLC sends with the trigger.

    counter_bits: after how many bits the line's encoder or counter starts again at 0. remember: among how many parts
    before it a given id must not come again; fewer than a PLC's own counter has values.
    """

    identity: Literal["trigger", "encoder", "given"] = "trigger"
    counter_bits: int = Field(default=32, ge=8, le=64)
    remember: int = Field(default=1000, ge=1, le=1_000_000)
    reject: RejectConfig | None = None
