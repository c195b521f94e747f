"""station.toml: what one station reads, judges with and writes. Knows no camera, no backend and no database."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from segdec_edge.config.camera import CameraConfig, ReplayConfig
from segdec_edge.config.load import Settings, beside, load_toml

Keep = Literal["defect", "all", "none"]
"""Which parts' pictures are archived; UNKNOWN counts with defect."""


class InspectionConfig(Settings):
    """[station]: bundle is the artefact that judges; threshold overrides the bundle's own, in [0, 1], and is logged.

    timeout_s: how long to wait for a frame before the camera counts as lost; any_size: judge also pictures of another
    size than those trained on, which are UNKNOWN otherwise.
    """

    bundle: Path
    name: str = Field(default="station", min_length=1)
    backend: Literal["auto", "tensorrt", "onnxruntime", "openvino"] = "auto"
    threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    timeout_s: float = Field(default=5.0, gt=0.0, le=86400.0)
    any_size: bool = False


class LedgerConfig(Settings):
    """[ledger]: the SQLite file that gets one row a part. It must lie on a local disk."""

    path: Path = Path("ledger.sqlite")


class ArchiveConfig(Settings):
    """[archive]: the folder for pictures; max_megabytes caps it, in 10^6 bytes, the oldest pictures leave first."""

    path: Path = Path("archive")
    keep: Keep = "defect"
    max_megabytes: float | None = Field(default=None, gt=0.0)


class StationConfig(Settings):
    """A whole station.toml."""

    station: InspectionConfig
    camera: CameraConfig
    ledger: LedgerConfig = LedgerConfig()
    archive: ArchiveConfig = ArchiveConfig()

    @model_validator(mode="after")
    def _frames_come_in_time(self) -> StationConfig:
        rate_hz = self.camera.rate_hz if isinstance(self.camera, ReplayConfig) else 0.0
        timeout_s = self.station.timeout_s
        if rate_hz > 0 and 1 / rate_hz >= timeout_s:
            raise ValueError(
                f"camera.rate_hz {rate_hz:g} gives a frame every {1 / rate_hz:g} s, wanted less than station.timeout_s"
                f" ({timeout_s:g} s). Raise station.timeout_s."
            )
        return self


def load_station(path: Path) -> StationConfig:
    """Read a station.toml; relative paths in it are relative to its folder. Raises ConfigError."""
    config = load_toml(StationConfig, path)
    folder = path.resolve().parent
    return config.model_copy(
        update={
            "station": beside(config.station, folder),
            "camera": beside(config.camera, folder),
            "ledger": beside(config.ledger, folder),
            "archive": beside(config.archive, folder),
        }
    )
