"""How far two forms of a network are apart: their scores, heat maps and verdicts, and each layer. Opens nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segdec_edge.decision import Rule, is_defect
from segdec_edge.deploy.layer_outputs import Ask
from segdec_edge.evaluation.scoring import ScoredSample
from segdec_edge.evaluation.thresholds import logit
from segdec_edge.types import Pixels


@dataclass(frozen=True)
class Limits:
    """How far two forms may be apart. why: in words.

    score: largest absolute difference of any score; heatmap: mean absolute difference of the heat maps; layer: relative
    error of one layer's output, the root of Σ(a − b)² / Σa² over all pictures.
    """

    why: str
    score: float
    heatmap: float
    layer: float


FP32 = Limits("both in fp32", 1e-4, 1e-5, 1e-3)
FP16 = Limits("fp16", 0.02, 2e-3, 0.02)
INT8 = Limits("int8", 0.15, 0.03, 0.3)
REBUILT = Limits("folded or compressed in between", 0.25, 0.05, 0.5)


@dataclass(frozen=True)
class LayerError:
    """relative as in Limits, None where the two outputs have other shapes; largest: of the absolute differences."""

    name: str
    relative: float | None
    largest: float


@dataclass(frozen=True)
class Compared:
    """One form beside the reference. Scores and heat maps: absolute differences; logit: of the scores' logits.

    flips: names with another verdict at the bundle's threshold. unscored: names that one of the two alone scored.
    exceeded: each limit that it is past, in words. layers: in the graph's order, empty where they were not compared;
    first: the first one past the limit.
    """

    name: str
    limits: Limits
    score_max: float
    score_mean: float
    heatmap_max: float
    heatmap_mean: float
    logit_max: float
    flips: tuple[str, ...]
    unscored: tuple[str, ...]
    exceeded: tuple[str, ...]
    layers: tuple[LayerError, ...] = ()
    first: str | None = None


def compare_scores(
    name: str,
    wanted: Sequence[ScoredSample],
    found: Sequence[ScoredSample],
    limits: Limits,
    threshold: float,
) -> Compared:
    """wanted: the reference's parts, found: the same ones by another form; threshold: of all verdicts."""
    pairs = list(zip(wanted, found, strict=True))
    both = [pair for pair in pairs if pair[0].score is not None and pair[1].score is not None]
    scores = np.array([[one.score for one in pair] for pair in both], np.float64).reshape(-1, 2)
    logits = np.array([[logit(score) for score in pair] for pair in scores]).reshape(-1, 2)
    apart = np.abs(scores[:, 0] - scores[:, 1])
    heatmaps = np.concatenate([np.abs(a.heatmap - b.heatmap).ravel() for a, b in both] or [np.zeros(0)])  # type: ignore[operator]
    one = Compared(
        name=name,
        limits=limits,
        score_max=_largest(apart),
        score_mean=_mean(apart),
        heatmap_max=_largest(heatmaps),
        heatmap_mean=_mean(heatmaps),
        logit_max=_largest(np.abs(logits[:, 0] - logits[:, 1])),
        flips=tuple(a.name for a, b in pairs if _flagged(a, threshold) != _flagged(b, threshold)),
        unscored=tuple(a.name for a, b in pairs if (a.score is None) != (b.score is None)),
        exceeded=(),
    )
    return replace(one, exceeded=tuple(_exceeded(one)))


def _exceeded(one: Compared) -> list[str]:
    words = []
    if one.unscored:
        words.append(f"{len(one.unscored)} pictures have a score in one of the two alone, as {one.unscored[0]}")
    for what, found, limit in (
        ("score", one.score_max, one.limits.score),
        ("heat map, mean", one.heatmap_mean, one.limits.heatmap),
    ):
        if not found <= limit:
            words.append(f"{what} {found:.2g} apart, wanted at most {limit:g}")
    return words


def first_past(layers: Sequence[LayerError], limit: float) -> str | None:
    """The first layer whose relative error is past the limit."""
    return next((one.name for one in layers if one.relative is not None and not one.relative <= limit), None)


def layer_errors(reference: Ask, other: Ask, pixels: Sequence[Pixels]) -> tuple[LayerError, ...]:
    """How far each layer that both have is from the reference's, in the other's order. pixels: each (1, H, W, C)."""
    squares: dict[str, NDArray[np.float64]] = {}
    largest: dict[str, float] = {}
    odd: set[str] = set()
    for one in pixels:
        wanted, found = reference(one), other(one)
        for name in (name for name in found if name in wanted):
            if wanted[name].shape != found[name].shape:
                odd.add(name)
                continue
            apart = found[name].astype(np.float64) - wanted[name]
            sums = np.array([np.sum(apart**2), np.sum(wanted[name].astype(np.float64) ** 2)])
            squares[name] = squares.get(name, np.zeros(2)) + sums
            largest[name] = max(largest.get(name, 0.0), float(np.abs(apart).max()))
    errors = [LayerError(name, _relative(*squares[name]), largest[name]) for name in squares]
    return (*errors, *(LayerError(name, None, 0.0) for name in sorted(odd)))


def _relative(apart: float, whole: float) -> float:
    if whole > 0:
        return float(np.sqrt(apart / whole))
    return 0.0 if apart == 0 else float("inf")


def _flagged(one: ScoredSample, threshold: float) -> bool:
    return one.score is None or is_defect(one.score, Rule(threshold))


def _largest(values: NDArray[np.float64]) -> float:
    return float(values.max()) if len(values) else 0.0


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
