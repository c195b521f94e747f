"""[archive] of station.toml: which pictures are kept, for how long and how many. Knows no folder and no picture."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from segdec_edge.config.load import Settings

Keep = Literal["defect", "all", "none"]
"""Which parts' pictures are archived; UNKNOWN counts with defect."""


class ClassConfig(Settings):
    """[archive.ok], .review, .unknown, .defect: how many days that class's pictures stay, and how many, in 10^6 bytes.

    max_days is counted on the wall clock; pictures taken before that was set count from when it was.
    """

    max_days: float | None = Field(default=None, gt=0.0)
    max_megabytes: float | None = Field(default=None, gt=0.0)


class ArchiveConfig(Settings):
    """[archive]: the folder for pictures, in 10^6 bytes. Past max_megabytes, or with less than min_free_megabytes left
    on the disk, pictures leave: OK first, then REVIEW, UNKNOWN, DEFECT, of each the oldest.

    The free space is for the ledger: 256 MB are some 500 000 rows.
    """

    path: Path = Path("archive")
    keep: Keep = "defect"
    max_megabytes: float | None = Field(default=None, gt=0.0)
    min_free_megabytes: float = Field(default=256.0, ge=0.0)
    ok: ClassConfig = ClassConfig()
    review: ClassConfig = ClassConfig()
    unknown: ClassConfig = ClassConfig()
    defect: ClassConfig = ClassConfig()
