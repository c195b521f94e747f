"""Histograms and the ranges that calibrators read off them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.deploy.ranges import BINS, CALIBRATORS, Histogram, histogram_of, load_cache, range_of, save_cache
from segdec_edge.errors import CalibrationError


def heavy_tailed(count: int = 200_000) -> np.ndarray:
    """What a ReLU gives: half zeros, a bulk, and one value ten times as large as all others."""
    values = np.maximum(np.random.default_rng(0).normal(0, 1, count), 0).astype(np.float32)
    values[0] = 40.0
    return values


def quantised(values: np.ndarray, edge: float) -> np.ndarray:
    step = edge / 127
    return np.clip(np.round(values / step), -128, 127) * step


def test_picture_by_picture_counts_as_all_at_once() -> None:
    values = heavy_tailed()[::-1]  # the largest comes last, so that the histogram has to widen
    found: Histogram | None = None
    for chunk in np.array_split(values, 7):
        found = histogram_of(chunk, found)
    once = histogram_of(values)
    assert found is not None
    assert (found.limit, found.low, found.high) == (once.limit, once.low, once.high)
    np.testing.assert_array_equal(found.counts, once.counts)
    assert found.counts.sum() == len(values)


def test_minmax_covers_everything_and_the_others_clip_the_outlier() -> None:
    values = heavy_tailed()
    histogram = histogram_of(values)
    assert range_of(histogram, "minmax") == (0.0, 40.0)
    edges = {name: range_of(histogram, name) for name in ("percentile", "entropy", "mse")}
    assert all(low == 0.0 for low, _ in edges.values())
    assert 2.0 < edges["percentile"][1] < 10.0
    assert 2.0 < edges["entropy"][1] < 10.0
    assert edges["mse"][1] < 30.0


def test_percentile_is_a_percentile() -> None:
    values = np.linspace(-1, 1, 100_001, dtype=np.float32)
    low, high = range_of(histogram_of(values), "percentile")
    assert high == pytest.approx(0.9999, abs=1.5 / BINS)
    assert low == -high


def test_mse_has_the_least_error() -> None:
    values = np.random.default_rng(1).laplace(0, 1, 100_000).astype(np.float32)
    histogram = histogram_of(values)
    edges = {name: range_of(histogram, name)[1] for name in CALIBRATORS}
    errors = {name: float(np.square(values - quantised(values, edge)).mean()) for name, edge in edges.items()}
    tried = [float(np.square(values - quantised(values, edge)).mean()) for edge in np.linspace(3, 12, 60)]
    assert errors["mse"] <= min(tried) * 1.02
    assert errors["mse"] < errors["minmax"]
    assert errors["mse"] <= min(errors.values()) * 1.001


def test_entropy_of_a_plain_distribution_keeps_nearly_all() -> None:
    values = np.random.default_rng(2).uniform(0, 1, 100_000).astype(np.float32)
    assert range_of(histogram_of(values), "entropy")[1] > 0.97


def test_nothing_but_zeros_and_single_values_have_a_range() -> None:
    zeros = histogram_of(np.zeros(10, np.float32))
    assert all(range_of(zeros, name)[1] >= 0.0 for name in CALIBRATORS)
    assert range_of(histogram_of(np.full(10, 0.5, np.float32)), "minmax") == (0.5, 0.5)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_broken_activation_is_refused(broken: float) -> None:
    with pytest.raises(CalibrationError, match="NaN or infinity"):
        histogram_of(np.array([1.0, broken], np.float32))


def test_a_cache_serves_its_own_weights_and_pictures_only(tmp_path: Path) -> None:
    path = tmp_path / "parts.cache"
    histogram = histogram_of(heavy_tailed())
    save_cache(path, "a" * 64, "b" * 64, {"x": histogram})
    read = load_cache(path, "a" * 64, "b" * 64)["x"]
    np.testing.assert_array_equal(read.counts, histogram.counts)
    assert (read.limit, read.low, read.high) == (histogram.limit, histogram.low, histogram.high)
    with pytest.raises(CalibrationError, match=r"other weights .*--recalibrate"):
        load_cache(path, "c" * 64, "b" * 64)
    with pytest.raises(CalibrationError, match=r"other calibration pictures .*--recalibrate"):
        load_cache(path, "a" * 64, "c" * 64)


def test_a_damaged_cache_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "parts.cache"
    save_cache(path, "a", "b", {"x": histogram_of(heavy_tailed())})
    whole = path.read_text()
    record = json.loads(whole)
    record["tensors"]["x"]["counts"] = record["tensors"]["x"]["counts"][:-16]
    for content in (whole[:200], "[]", json.dumps({**record}), json.dumps({**json.loads(whole), "format": 2})):
        path.write_text(content)
        with pytest.raises(CalibrationError, match="Measure again"):
            load_cache(path, "a", "b")
