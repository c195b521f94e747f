"""The tables of station.toml that say where to look and what is a defect. Knows no camera and no bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from segdec_edge.config.load import Settings
from segdec_edge.decision import Combine, Rule
from segdec_edge.errors import ConfigError, PictureError
from segdec_edge.files import from_home
from segdec_edge.pictures import read_picture
from segdec_edge.types import BoolMask
from segdec_edge.view import View

CameraName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Pixel = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(ge=1)]

NO_TILES = (
    "not supported: FeatureNorm uses the statistics of the whole picture, so a tile is not judged as it would"
    " be inside the picture. Train on pictures of one tile's size (cut the training pictures alike) and give each its"
    " own camera or view.region, or train with a larger input size."
)


class RuleConfig(Settings):
    """[rule]: what counts as a defect.

    combine: "score" (default) takes the threshold alone, which is what the bundle's accuracy was measured with;
    "heatmap" a connected part of the heat map at or above `level` of at least min_area_px pixels of the whole picture;
    "either" one of the two; "both" only where they agree. review: parts to keep a copy of, where the score lies within
    ± a number of the threshold, or in [low, high].
    """

    combine: Combine = "score"
    level: float = Field(default=0.5, gt=0.0, le=1.0)
    min_area_px: float = Field(default=0.0, ge=0.0)
    review: Annotated[float, Field(gt=0.0, le=1.0)] | tuple[Share, Share] | None = None

    @model_validator(mode="after")
    def _no_setting_without_effect(self) -> RuleConfig:
        if self.combine == "score" and self.min_area_px > 0:
            raise ValueError(
                f'min_area_px is {self.min_area_px:g}, but combine = "score" does not ask the heat map.'
                ' Set combine = "either", "both" or "heatmap", or leave min_area_px out.'
            )
        if isinstance(self.review, tuple) and self.review[0] > self.review[1]:
            raise ValueError(f"review is {list(self.review)}, wanted [low, high] with low <= high. Change it.")
        return self

    def rule(self, threshold: float) -> Rule:
        """The rule at a threshold on the score, the station's own or the bundle's. Raises ConfigError."""
        band = self.review
        if isinstance(band, float):
            band = (threshold - band, threshold + band)
        return Rule(threshold, self.combine, self.level, self.min_area_px, band)


class ViewConfig(Settings):
    """[view]: region is [x, y, width, height] in pixels of the whole picture; rotation in degrees clockwise, of the
    region, before the network sees it.

    ignore_mask: a PNG of the whole picture's size; heat under pure white (255) does not count for the rule's heat map.
    All else counts, and so does a heat map's cell that is only partly white. The score is one number for the whole
    region: no mask changes it.
    """

    region: tuple[Pixel, Pixel, Side, Side] | None = None
    rotation: Literal[0, 90, 180, 270] = 0
    ignore_mask: Path | None = None
    tiles: None = None  # so that whoever asks for them is told why not

    @field_validator("tiles", mode="before")
    @classmethod
    def _no_tiles(cls, value: object) -> None:
        raise ValueError(NO_TILES)

    def view(self) -> View:
        return View(self.region, self.rotation)

    def ignored(self) -> BoolMask | None:
        """The mask (H, W), True where heat is ignored; None without one. Raises ConfigError."""
        return None if self.ignore_mask is None else read_ignore_mask(self.ignore_mask)

    def beside(self, folder: Path) -> ViewConfig:
        """The same with a relative path taken as relative to a folder."""
        if self.ignore_mask is None:
            return self
        return self.model_copy(update={"ignore_mask": folder / from_home(self.ignore_mask)})


class DebounceConfig(Settings):
    """[debounce], for a free-running camera: the event DEFECT comes when at least `defects` of the last `frames` are
    DEFECT or UNKNOWN, and goes when fewer than `release` are (default: `defects`; less makes it hold on longer).

    gap_s: after as long without a frame that was looked at (the camera stalled, the backend hung) the window starts
    anew. By default as long as a silent camera is waited for; set it below what a part needs to pass.
    """

    frames: int = Field(ge=1, le=1000)
    defects: int = Field(ge=1)
    release: int | None = Field(default=None, ge=1)
    gap_s: float = Field(default=5.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _counts_fit(self) -> DebounceConfig:
        if self.defects > self.frames:
            raise ValueError(f"defects is {self.defects}, wanted at most frames ({self.frames}). Change one of them.")
        if self.release is not None and self.release > self.defects:
            raise ValueError(f"release is {self.release}, wanted at most defects ({self.defects}). Change it.")
        return self


def read_ignore_mask(path: Path) -> BoolMask:
    """A PNG in the size of the whole picture as (H, W), True where it is pure white. Raises ConfigError."""
    if path.suffix.lower() != ".png":
        raise ConfigError(
            f"view.ignore_mask is {path.name}, wanted a PNG: other formats blur its edges. Save it as PNG."
        )
    try:
        pixels = read_picture(path)
    except PictureError as error:
        raise ConfigError(f"view.ignore_mask: {error}") from error
    white: BoolMask = pixels == 255 if pixels.ndim == 2 else np.all(pixels == 255, axis=2)
    if white.all():
        raise ConfigError(f"view.ignore_mask {path.name} is all white, wanted some of it black. Black is what counts.")
    return white


def refuse_unused_mask(rule: RuleConfig, view: ViewConfig) -> None:
    """Raises ValueError where a mask could not have any effect: the integrator would believe in it."""
    if view.ignore_mask is not None and rule.combine == "score":
        raise ValueError(
            'view.ignore_mask has no effect with rule.combine = "score": the score is one number for the whole region'
            ' and cannot be masked. Set rule.combine = "heatmap" or "both", or cut the area off with view.region.'
        )


def refuse_debounce(debounce: DebounceConfig | None, *, triggered: bool, camera: str) -> None:
    """Raises ValueError where a camera is triggered: one frame is one part there, and answers for itself alone."""
    if debounce is not None and triggered:
        raise ValueError(
            f"debounce is set, but camera {camera} is triggered: each frame is a part of its own, and three good"
            " neighbours must not pass a bad one. Remove [debounce], or let the camera run free."
        )
