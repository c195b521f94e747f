"""station.toml: what one station reads, judges with and writes. Knows no camera, no backend and no database."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from segdec_edge.config.archive import ArchiveConfig
from segdec_edge.config.load import Settings, load_toml
from segdec_edge.files import from_home


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


class CameraConfig(Settings):
    """[camera]: a replay of a folder, a video file, or a .txt list of pictures, one path a line.

    rate_hz: pictures a second, 0 for as fast as possible; loop: start again at the end;
    pattern: which pictures of a folder, as a shell writes it (*_front.png).
    """

    path: Path
    kind: Literal["replay"] = "replay"
    rate_hz: float = Field(default=0.0, ge=0.0, le=100000.0)
    loop: bool = False
    pattern: str = Field(default="*", min_length=1)


class LedgerConfig(Settings):
    """[ledger]: the SQLite file that gets one row a part. It must lie on a local disk."""

    path: Path = Path("ledger.sqlite")


class StationConfig(Settings):
    """A whole station.toml."""

    station: InspectionConfig
    camera: CameraConfig
    ledger: LedgerConfig = LedgerConfig()
    archive: ArchiveConfig = ArchiveConfig()

    @model_validator(mode="after")
    def _frames_come_in_time(self) -> StationConfig:
        rate_hz, timeout_s = self.camera.rate_hz, self.station.timeout_s
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
            "station": _resolved(config.station, "bundle", folder),
            "camera": _resolved(config.camera, "path", folder),
            "ledger": _resolved(config.ledger, "path", folder),
            "archive": _resolved(config.archive, "path", folder),
        }
    )


def _resolved(table: Settings, key: str, folder: Path) -> Settings:
    written: Path = getattr(table, key)
    return table.model_copy(update={key: folder / from_home(written)})
