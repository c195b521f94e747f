"""Which pictures an epoch uses. Knows indices and counts, no picture."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segdec_edge.errors import TrainingError

Counts = NDArray[np.int64]


def draw_probabilities(use_counts: ArrayLike) -> NDArray[np.float64]:
    """Drawing weight of each negative picture in the next epoch, (N,), sums to 1.

    With f the use counts: q = 1 − f / max f; q = q − median(q) + 1; q = q^(4·ln N); normalised. Rarely used pictures
    come first; while more than half are unused the most used have 0. Equal counts give equal weights.
    Raises TrainingError on an empty or negative count. Source: the authors' implementation of Božič et al. 2020, III-B.
    """
    counts = np.asarray(use_counts, np.float64)
    if counts.ndim != 1 or not len(counts) or not np.isfinite(counts).all() or counts.min() < 0:
        raise TrainingError(
            f"use counts of shape {counts.shape}, wanted (N,) with N at least 1, all finite, none negative."
        )
    most = counts.max()
    rarity = 1.0 - counts / most if most > 0 else np.ones_like(counts)
    rarity = rarity - np.median(rarity) + 1.0
    # In logarithms: at N in the millions the power itself leaves the range of a float.
    with np.errstate(divide="ignore"):
        exponent = 4.0 * math.log(len(counts)) * np.log(rarity) if len(counts) > 1 else np.zeros(1)
    weights = np.exp(exponent - exponent.max())
    return np.asarray(weights / weights.sum())


def draw_negatives(use_counts: Counts, wanted: int, rng: np.random.Generator, *, by_frequency: bool = True) -> Counts:
    """Indices (wanted,) of the negatives of one epoch, without repetition as long as there are enough.

    Where more are wanted than there are, each is used equally often and only the remainder is drawn.
    """
    total = len(use_counts)
    whole, rest = divmod(wanted, total)
    repeated = np.tile(np.arange(total), whole)
    probabilities = draw_probabilities(use_counts) if by_frequency else np.full(total, 1.0 / total)
    return np.concatenate([repeated, _draw(probabilities, rest, rng)]).astype(np.int64)


def epoch_order(
    positives: Counts, negatives: Counts, use_counts: Counts, rng: np.random.Generator, *, by_frequency: bool = True
) -> tuple[Counts, Counts]:
    """Shuffled picture indices of one epoch, all P positives and P negatives, and the use counts after it.

    positives (P,) and negatives (N,) hold picture indices; use_counts (N,) belongs to negatives.
    Raises TrainingError where there are no positives or no negatives: both losses need both kinds.
    """
    if not len(positives) or not len(negatives):
        raise TrainingError(
            f"{len(positives)} defective and {len(negatives)} good pictures to train on, wanted at least one of each."
            " Add the missing kind, or change the split."
        )
    drawn = draw_negatives(use_counts, len(positives), rng, by_frequency=by_frequency)
    order = rng.permutation(np.concatenate([positives, negatives[drawn]]))
    return order, use_counts + np.bincount(drawn, minlength=len(negatives))


def _draw(probabilities: NDArray[np.float64], count: int, rng: np.random.Generator) -> Counts:
    """Draw without replacement; where fewer than `count` have a chance, all of those and any others."""
    possible = np.flatnonzero(probabilities)
    if count <= len(possible):
        return rng.choice(len(probabilities), size=count, replace=False, p=probabilities)
    others = np.flatnonzero(probabilities == 0)
    return np.concatenate([possible, rng.choice(others, size=count - len(possible), replace=False)])
