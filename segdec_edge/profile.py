"""The training profile: how the scores and the light of known pictures were spread. Knows no model and no line.

It travels in a bundle's meta.json, and a station compares what it sees with it (station/drift.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, Field, model_validator

from segdec_edge.record import Count, Record, Sha256

LOGIT_CLIP = 1e-7
"""Scores are kept this far from 0 and 1 before their logit: float32 has no finer step below 1."""
NO_MODEL_FILE = "0" * 64
"""Stands in a checkpoint's profile for the hash of the model.onnx that it is not yet."""
MOST_BINS = 10
PICTURES_A_BIN = 10
"""Fewer pictures a bin, and chance alone moves the share of a bin by more than a third."""


class Spread(Record):
    """One figure over many pictures: how many lie between each two of the rising edges, below the first and from the
    last on; mean and deviation (standard deviation) of the figure itself.

    What equals an edge counts above it.
    """

    edges: tuple[float, ...]
    counts: tuple[Count, ...]
    mean: float
    deviation: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _is_a_histogram(self) -> Spread:
        if len(self.counts) != len(self.edges) + 1 or not sum(self.counts):
            raise ValueError(f"{len(self.counts)} counts for {len(self.edges)} edges, wanted one more, and not all 0")
        if any(low >= high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("the edges do not rise")
        return self

    @property
    def total(self) -> int:
        return sum(self.counts)


class Profile(Record):
    """Scores as logits, of good and of defective pictures, in the same bins; None where no such picture had a score.

    brightness and contrast: mean and standard deviation of the grey levels of each prepared picture, good or defective.
    model_sha256: of the model.onnx that scored; scores of another one are spread otherwise, its light is not.
    data, subset: the pictures, as a data set's spec and its subset.
    """

    data: str
    subset: str
    model_sha256: Sha256
    when: AwareDatetime
    good: Spread | None
    defective: Spread | None
    brightness: Spread
    contrast: Spread

    @model_validator(mode="after")
    def _same_bins(self) -> Profile:
        if self.good is not None and self.defective is not None and self.good.edges != self.defective.edges:
            raise ValueError("good and defective pictures are counted in other bins")
        return self

    @property
    def pictures(self) -> int:
        return self.brightness.total

    def in_words(self) -> str:
        good, defective = (0 if one is None else one.total for one in (self.good, self.defective))
        return (
            f"{good} good and {defective} defective {self.subset} pictures, brightness {self.brightness.mean:.1f} ±"
            f" {self.brightness.deviation:.1f}, model {self.model_sha256[:12]}"
        )


@dataclass(frozen=True)
class Seen:
    """One picture. light: brightness and contrast (pictures.light_of); score None where it has none."""

    positive: bool
    score: float | None
    light: tuple[float, float]


def profile_of(seen: Sequence[Seen], *, data: str, subset: str, model_sha256: str, when: AwareDatetime) -> Profile:
    """The profile of pictures that were scored. Raises ValueError on none."""
    good, defective = (
        np.array([logit(one.score) for one in seen if one.positive is kind and one.score is not None])
        for kind in (False, True)
    )
    edges = _score_edges(good if len(good) else defective)
    light = np.array([one.light for one in seen], np.float64).reshape(-1, 2)
    brightness, contrast = light[:, 0], light[:, 1]
    return Profile(
        data=data,
        subset=subset,
        model_sha256=model_sha256,
        when=when,
        good=spread_of(good, edges) if len(good) else None,
        defective=spread_of(defective, edges) if len(defective) else None,
        brightness=spread_of(brightness, quantile_edges(brightness)),
        contrast=spread_of(contrast, quantile_edges(contrast)),
    )


def spread_of(values: NDArray[np.float64], edges: Iterable[float]) -> Spread:
    """Raises ValueError on no value."""
    inner = tuple(edges)
    counts = np.bincount(np.searchsorted(inner, values, side="right"), minlength=len(inner) + 1)
    return Spread(
        edges=inner,
        counts=tuple(int(count) for count in counts),
        mean=float(values.mean()),
        deviation=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
    )


def quantile_edges(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Inner edges of bins that hold about the same number of values each: at most 10 bins, of at least 10 values."""
    bins = max(2, min(MOST_BINS, len(values) // PICTURES_A_BIN))
    found = np.quantile(values, np.arange(1, bins) / bins)
    return tuple(float(edge) for edge in np.unique(found))


def logit(score: float) -> float:
    """ln(s / (1 − s)) of a score in [0, 1], clipped to about ±16."""
    clipped = min(max(score, LOGIT_CLIP), 1.0 - LOGIT_CLIP)
    return math.log(clipped) - math.log1p(-clipped)


def _score_edges(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Those of the good pictures, and one more bin above the highest of them: there the defects are expected."""
    above = float(np.nextafter(values.max(), np.inf))
    return (*(edge for edge in quantile_edges(values) if edge < above), above)
