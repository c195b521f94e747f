from __future__ import annotations

import math

import numpy as np
import pytest

from segdec_edge.errors import TrainingError
from segdec_edge.training.sampling import draw_negatives, draw_probabilities, epoch_order


def restated(counts: list[int]) -> np.ndarray:
    f = np.array(counts, float)
    q = 1 - f / f.max()
    q = q - np.median(q) + 1
    q = q ** (4 * math.log(len(f)))
    return q / q.sum()


@pytest.mark.parametrize("counts", [[1, 2, 3, 4, 5], [0, 0, 0, 1], [5, 6, 7, 5, 5, 6], list(range(1, 291))])
def test_probabilities_follow_the_published_formula(counts: list[int]) -> None:
    probabilities = draw_probabilities(np.array(counts))
    assert probabilities.sum() == pytest.approx(1)
    np.testing.assert_allclose(probabilities, restated(counts), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("counts", [[0, 0, 0], [4, 4, 4, 4], [7]])
def test_equal_use_gives_equal_probability(counts: list[int]) -> None:
    assert draw_probabilities(counts) == pytest.approx(1 / len(counts))


def test_the_most_used_have_no_chance_while_most_are_unused() -> None:
    probabilities = draw_probabilities([0, 0, 0, 1, 1])
    assert (probabilities[3:] == 0).all()


def test_a_million_negatives_do_not_overflow() -> None:
    counts = np.arange(1_000_000)
    probabilities = draw_probabilities(counts)
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize("counts", [[], [[1, 2]], [-1, 3], [float("nan"), 1], [float("inf"), 1]])
def test_counts_that_are_none_are_refused(counts: list[float]) -> None:
    with pytest.raises(TrainingError, match="use counts"):
        draw_probabilities(counts)


def usage(by_frequency: bool, positives: int = 33, negatives: int = 290, epochs: int = 50) -> np.ndarray:
    counts = np.zeros(negatives, np.int64)
    for epoch in range(epochs):
        order, counts = epoch_order(
            np.arange(positives),
            np.arange(positives, positives + negatives),
            counts,
            np.random.default_rng([7, epoch]),
            by_frequency=by_frequency,
        )
        assert sorted(order)[:positives] == list(range(positives))
        assert len(order) == 2 * positives
    return counts


def test_every_negative_is_used_about_equally_often() -> None:
    """Reference: 33 positives, 290 negatives, 50 epochs give 5 to 7 uses each; random drawing 0 to 12."""
    even, random = usage(True), usage(False)
    assert even.sum() == random.sum() == 33 * 50
    assert even.min() >= 4
    assert even.max() <= 8
    assert random.max() - random.min() >= 8


def test_more_positives_than_negatives_repeats_all_negatives_evenly() -> None:
    counts = usage(True, positives=50, negatives=20, epochs=4)
    assert counts.sum() == 200
    assert counts.max() - counts.min() <= 2


def test_more_wanted_than_have_a_chance_takes_the_others_too() -> None:
    use = np.array([0, 0, 0, 1, 1])  # only three have a probability above 0
    drawn = draw_negatives(use, 4, np.random.default_rng(0))
    assert sorted(drawn)[:3] == [0, 1, 2]
    assert len(set(drawn)) == 4


def test_the_order_depends_on_the_generator_alone() -> None:
    arguments = np.arange(5), np.arange(5, 40), np.zeros(35, np.int64)
    first, again, other = (epoch_order(*arguments, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(("positives", "negatives"), [(0, 4), (4, 0)])
def test_one_kind_alone_cannot_be_trained_on(positives: int, negatives: int) -> None:
    with pytest.raises(TrainingError, match="at least one of each"):
        epoch_order(np.arange(positives), np.arange(negatives), np.zeros(negatives, np.int64), np.random.default_rng(0))
