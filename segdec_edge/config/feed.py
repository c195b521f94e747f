"""How a camera is served: what its table in station.toml says beside what it is. Knows no camera."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from segdec_edge.config.load import Settings

Policy = Literal["latest", "lossless"]
"""latest: the newest frame only, drops are counted; lossless: every trigger is a part with a verdict."""


class FeedConfig(Settings):
    """Part of every camera's table.

    policy: None for latest where the camera runs freely and for lossless where it is triggered or a replay.
    queue: parts that may wait for the backend, or triggers for their picture; one more is UNKNOWN. deadline_ms: from
    trigger to verdict, else the part is UNKNOWN at that moment; None for 60 s. trigger_interval_s: the station triggers
    the camera by itself. backoff_s: the shortest and the longest wait before a lost camera is opened again.
    """

    policy: Policy | None = None
    queue: int = Field(default=8, ge=1, le=10_000)
    deadline_ms: float | None = Field(default=None, gt=0.0, le=60_000.0)
    trigger_interval_s: float | None = Field(default=None, ge=0.001, le=86400.0)
    backoff_s: tuple[float, float] = (0.5, 10.0)

    @model_validator(mode="after")
    def _backoff_rises(self) -> FeedConfig:
        low, high = self.backoff_s
        if not 0.05 <= low <= high <= 3600.0:
            raise ValueError(
                f"backoff_s {list(self.backoff_s)}, wanted 0.05 <= shortest <= longest <= 3600. Change it."
            )
        return self

    @model_validator(mode="after")
    def _triggered_cameras_lose_nothing(self) -> FeedConfig:
        trigger = getattr(self, "trigger", "free")
        if trigger != "free" and self.policy == "latest":
            raise ValueError(f'policy "latest" with trigger {trigger!r} would drop parts. Leave policy out.')
        if trigger != "software" and self.trigger_interval_s is not None:
            raise ValueError('trigger_interval_s needs trigger = "software". Change one of them.')
        return self
