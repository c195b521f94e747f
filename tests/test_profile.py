"""The training profile: histograms that say what they counted, in bins that hold enough."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from segdec_edge.bundle import utc_now
from segdec_edge.pictures import light_of
from segdec_edge.profile import Profile, Seen, Spread, logit, profile_of, quantile_edges, spread_of

MODEL = "a" * 64


def make_profile(seen: list[Seen]) -> Profile:
    return profile_of(seen, data="folder:x", subset="validation", model_sha256=MODEL, when=utc_now())


def test_every_picture_is_in_one_bin_and_the_defects_lie_above_all_good_ones() -> None:
    rng = np.random.default_rng(0)
    good = [Seen(False, float(score), (100.0 + index, 20.0)) for index, score in enumerate(rng.uniform(0, 0.4, 60))]
    bad = [Seen(True, float(score), (90.0, 25.0)) for score in rng.uniform(0.6, 1.0, 12)]
    found = make_profile([*good, *bad, Seen(True, None, (90.0, 25.0))])
    assert found.good is not None and found.defective is not None
    assert found.good.total == 60
    assert found.good.counts[-1] == 0
    assert found.defective.counts == (*[0] * (len(found.good.edges)), 12)
    assert found.pictures == found.contrast.total == 73
    assert found.good.mean == pytest.approx(np.mean([logit(one.score or 0) for one in good]))
    assert found.brightness.mean == pytest.approx(np.mean([one.light[0] for one in good] + [90.0] * 13))
    assert "60 good and 12 defective validation pictures" in found.in_words()


@pytest.mark.parametrize(("count", "bins"), [(1, 2), (20, 2), (35, 3), (100, 10), (5000, 10)])
def test_there_are_as_many_bins_as_the_pictures_fill(count: int, bins: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    found = spread_of(values, quantile_edges(values))
    assert len(found.counts) == bins
    assert found.total == count


def test_even_values_make_a_histogram_too() -> None:
    found = make_profile([Seen(False, 0.0, (128.0, 3.0))] * 40)
    assert found.brightness.counts == (0, 40)
    assert found.brightness.deviation == 0.0
    assert found.defective is None
    assert found.good is not None and sum(found.good.counts[:-1]) == 40


def test_it_survives_json_and_refuses_what_is_no_histogram() -> None:
    found = make_profile([Seen(index % 3 == 0, index / 40, (float(index), 1.0)) for index in range(40)])
    assert Profile.model_validate_json(found.model_dump_json()) == found
    for changes in ({"counts": (1, 2, 3)}, {"counts": (0, 0)}, {"edges": (2.0, 1.0), "counts": (1, 1, 1)}):
        with pytest.raises(ValidationError):
            Spread.model_validate({"edges": (1.0,), "counts": (1, 1), "mean": 0.0, "deviation": 1.0, **changes})
    other = Spread(edges=(1.0,), counts=(1, 1), mean=0.0, deviation=1.0)
    with pytest.raises(ValidationError, match="other bins"):
        Profile.model_validate({**found.model_dump(), "good": other.model_dump()})


def test_light_is_the_mean_and_deviation_of_all_channels() -> None:
    rng = np.random.default_rng(3)
    for channels in (1, 3):
        pixels = rng.integers(0, 256, (40, 30, channels), dtype=np.uint8)
        assert light_of(pixels) == (pytest.approx(pixels.mean()), pytest.approx(pixels.std()))
