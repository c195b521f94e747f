"""The synthetic parts maker: deterministic, honestly masked, and hard for anything that has not learnt it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from segdec_edge.data.samples import Dataset, Sample
from segdec_edge.data.synthetic import SyntheticSample, synthetic_samples
from segdec_edge.errors import DataError
from segdec_edge.types import Pixels

SIZE = (256, 256)
# With 0.4 of the parts defective, ranking at random gives an average precision of 0.4 and a perfect one 1.
FAILED = 0.7

HASH_IN_A_NEW_PROCESS = """
import hashlib
from segdec_edge.data.synthetic import synthetic_samples
for sample in synthetic_samples(7, 6, (128, 192)):
    mask = sample.read_mask()
    print(hashlib.sha256(sample.read().tobytes() + (b"" if mask is None else mask.tobytes())).hexdigest())
"""


@pytest.fixture(scope="module")
def parts() -> tuple[SyntheticSample, ...]:
    return synthetic_samples(3, 120, SIZE)


@pytest.fixture(scope="module")
def pictures(parts: tuple[SyntheticSample, ...]) -> list[Pixels]:
    return [part.read() for part in parts]


def digest(sample: Sample) -> str:
    mask = sample.read_mask()
    return hashlib.sha256(sample.read().tobytes() + (b"" if mask is None else mask.tobytes())).hexdigest()


def test_same_seed_gives_the_same_bytes_in_another_process() -> None:
    out = subprocess.run([sys.executable, "-c", HASH_IN_A_NEW_PROCESS], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [digest(sample) for sample in synthetic_samples(7, 6, (128, 192))]


def test_every_part_and_every_seed_differs() -> None:
    samples = (*synthetic_samples(0, 10, (128, 128)), *synthetic_samples(1, 10, (128, 128)))
    assert len({sample.read().tobytes() for sample in samples}) == 20
    assert len({sample.name for sample in samples}) == 20


def test_a_longer_set_begins_with_the_shorter_one() -> None:
    assert synthetic_samples(5, 200, SIZE)[:37] == synthetic_samples(5, 37, SIZE)


def test_a_part_does_not_depend_on_what_was_read_before() -> None:
    first, second = synthetic_samples(5, 2, (128, 128))
    alone = second.read()
    first.read()
    assert np.array_equal(second.read(), alone)


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3, 0.4, 0.5, 0.85, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7, 100, 240])
def test_share_of_defective_parts_is_exact(n: int, share: float) -> None:
    samples = synthetic_samples(0, n, SIZE, share)
    assert sum(sample.positive for sample in samples) == round(n * share)
    assert len(Dataset("synthetic", samples).samples) == n


@pytest.mark.parametrize("positive", [True, False])
def test_textures_take_equal_turns(positive: bool) -> None:
    samples = [sample for sample in synthetic_samples(2, 200, SIZE) if sample.positive is positive]
    counts = Counter(sample.texture for sample in samples)
    assert set(counts) == {"machined", "cast", "woven"}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_kind_of_defect_comes_on_every_texture() -> None:
    samples = synthetic_samples(0, 200, SIZE)
    pairs = {(sample.texture, sample.defect) for sample in samples if sample.positive}
    assert len(pairs) == 3 * 4


def test_defective_parts_are_spread_over_the_sequence() -> None:
    positives = np.array([sample.positive for sample in synthetic_samples(0, 200, SIZE)])
    assert set(positives.reshape(20, 10).sum(axis=1)) == {4}


@pytest.mark.parametrize("size_hw", [(64, 128), (128, 128), (250, 131), (704, 256), (96, 640)])
def test_sizes(size_hw: tuple[int, int]) -> None:
    for sample in synthetic_samples(0, 24, size_hw, 1.0)[:: 2 if max(size_hw) < 300 else 6]:
        picture, mask = sample.read(), sample.read_mask()
        assert mask is not None
        assert picture.shape == mask.shape == size_hw
        assert (picture.dtype, mask.dtype) == (np.uint8, np.bool_)
        assert 0 < mask.mean() < 0.5


def test_good_parts_have_no_mask() -> None:
    part = synthetic_samples(0, 1, SIZE, 0.0)[0]
    assert (part.positive, part.has_mask, part.path, part.part) == (False, True, None, part.name)
    assert part.read_mask() is None
    assert part.read_exact_mask() is None


def test_rough_mask_covers_the_defect_generously(parts: tuple[SyntheticSample, ...]) -> None:
    for part in parts[:60]:
        rough, exact = part.read_mask(), part.read_exact_mask()
        if not part.positive:
            continue
        assert rough is not None
        assert exact is not None
        assert exact.sum() >= 30
        assert not (exact & ~rough).any()
        assert rough.sum() > 1.3 * exact.sum()


def test_a_defect_changes_only_its_place_and_can_be_seen_there(parts: tuple[SyntheticSample, ...]) -> None:
    for part in parts[:60]:
        exact = part.read_exact_mask()
        if exact is None:
            continue
        damaged, sound = part.read().astype(float), replace(part, defect=None).read().astype(float)
        change = np.abs(damaged - sound)
        blurred = cv2.dilate(exact.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert not change[~blurred].any()
        assert np.percentile(change[exact], 90) > 15, part


@pytest.mark.parametrize(
    ("seed", "n", "size_hw", "share"),
    [(-1, 5, SIZE, 0.4), (0, 0, SIZE, 0.4), (0, 5, (63, 256), 0.4), (0, 5, SIZE, 1.1), (0, 5, SIZE, float("nan"))],
)
def test_numbers_without_sense_are_refused(seed: int, n: int, size_hw: tuple[int, int], share: float) -> None:
    with pytest.raises(DataError, match="wanted seed at least 0, n at least 1, sides at least 64"):
        synthetic_samples(seed, n, size_hw, share)


def high_pass(picture: Pixels, sigma: float) -> np.ndarray:
    grey = picture.astype(np.float32)
    return grey - cv2.GaussianBlur(grey, (0, 0), sigma)


def hat(picture: Pixels, operation: int, size: int) -> np.ndarray:
    return cv2.morphologyEx(picture, operation, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))


def gradient(picture: Pixels) -> np.ndarray:
    grey = picture.astype(np.float32)
    return cv2.magnitude(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1))


def local_deviation(picture: Pixels, size: int) -> np.ndarray:
    grey = picture.astype(np.float32)
    variance = cv2.blur(grey * grey, (size, size)) - cv2.blur(grey, (size, size)) ** 2
    return np.sqrt(np.maximum(variance, 0))


DETECTORS: dict[str, Callable[[Pixels], float]] = {
    "darkest pixel": lambda picture: float(picture.min()),
    "brightest pixel": lambda picture: float(picture.max()),
    "mean": lambda picture: float(picture.mean()),
    "deviation": lambda picture: float(picture.std()),
    "local contrast": lambda picture: float(np.abs(high_pass(picture, 8)).max()),
    "fine local contrast": lambda picture: float(np.abs(high_pass(picture, 2)).max()),
    "fine dark contrast": lambda picture: float(high_pass(picture, 2).min()),
    "local contrast over texture": lambda picture: float(
        np.abs(high_pass(picture, 2)).max() / high_pass(picture, 2).std()
    ),
    "top hat": lambda picture: float(hat(picture, cv2.MORPH_TOPHAT, 7).max()),
    "black hat": lambda picture: float(hat(picture, cv2.MORPH_BLACKHAT, 7).max()),
    "wide black hat": lambda picture: float(hat(picture, cv2.MORPH_BLACKHAT, 15).max()),
    "gradient energy": lambda picture: float((gradient(picture) ** 2).mean()),
    "steepest edge": lambda picture: float(gradient(picture).max()),
    "roughest spot": lambda picture: float(
        local_deviation(picture, 15).max() / np.median(local_deviation(picture, 15))
    ),
    "sharpness": lambda picture: float(cv2.Laplacian(picture, cv2.CV_32F).var()),
}


def better_average_precision(parts: tuple[SyntheticSample, ...], scores: list[float]) -> float:
    """The average precision of the scores or of their negatives, whichever is higher."""
    metrics = pytest.importorskip("sklearn.metrics")
    labels = [part.positive for part in parts]
    return max(float(metrics.average_precision_score(labels, sign * np.array(scores))) for sign in (1, -1))


@pytest.mark.parametrize("name", DETECTORS)
def test_a_threshold_detector_fails(name: str, parts: tuple[SyntheticSample, ...], pictures: list[Pixels]) -> None:
    scores = [DETECTORS[name](picture) for picture in pictures]
    assert better_average_precision(parts, scores) < FAILED


def test_the_measure_would_notice_a_detector_that_works(parts: tuple[SyntheticSample, ...]) -> None:
    marked = [0.0 if (mask := part.read_exact_mask()) is None else float(mask.sum()) for part in parts]
    assert better_average_precision(parts, marked) == pytest.approx(1.0)


def test_an_untrained_network_fails(parts: tuple[SyntheticSample, ...], pictures: list[Pixels]) -> None:
    torch = pytest.importorskip("torch")
    from segdec_edge.model.segdecnet import SegDecNet

    torch.manual_seed(0)
    net = SegDecNet(width=0.25).eval()
    decisions, segmentations = [], []
    with torch.inference_mode():
        for picture in pictures:
            decision, segmentation = net(torch.tensor(picture)[None, None].float() / 255)
            decisions.append(float(decision))
            segmentations.append(float(segmentation.max()))
    assert better_average_precision(parts, decisions) < FAILED
    assert better_average_precision(parts, segmentations) < FAILED
