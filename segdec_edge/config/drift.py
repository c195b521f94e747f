"""[drift] of station.toml: when a station tells that what it sees is no longer what its bundle was made for."""

from __future__ import annotations

from pydantic import Field

from segdec_edge.config.load import Settings


class DriftConfig(Settings):
    """window: so many parts, the last ones, are compared with the bundle's profile; nothing is told before there are as
    many.

    expected_defects: the share of defective parts on this line; the scores of so many defective and the rest good
    profile pictures are what is expected. psi: population stability index from which the spread counts as another one.
    shift: the smallest lasting change of a mean that matters, in standard deviations of the profile; patience: how long
    one twice as large may last before it is told, in parts.
    """

    enabled: bool = True
    window: int = Field(default=2000, ge=200, le=100_000)
    expected_defects: float = Field(default=0.02, ge=0.0, lt=1.0)
    psi: float = Field(default=0.25, gt=0.0, le=10.0)
    shift: float = Field(default=0.5, ge=0.25, le=3.0)
    patience: int = Field(default=1000, ge=100, le=100_000)
