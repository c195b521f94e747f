"""Mask files: soft edges and class numbers are read as today, class values on both sides of 127 are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segdec_edge.data.check import check_dataset
from segdec_edge.data.folder import folder_dataset
from segdec_edge.data.samples import read_mask
from segdec_edge.errors import MaskError


def regions(first: Any, second: Any, gap: int = 20, dtype: Any = np.uint8) -> NDArray[Any]:
    mask = np.zeros((64, 64, *np.shape(first)), dtype)
    mask[5:10, 5:15] = first
    mask[10 + gap : 20 + gap, 5:15] = second
    return mask


def saved(path: Path, mask: NDArray[Any], *options: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), mask, options)
    return path


@pytest.mark.parametrize(
    ("first", "second", "value"), [(50, 200, 50), (127, 128, 127), (1, 255, 1), ((0, 0, 64), (0, 0, 128), 64)]
)
def test_classes_on_both_sides_of_127_are_refused(tmp_path: Path, first: Any, second: Any, value: int) -> None:
    path = saved(tmp_path / "mask.png", regions(first, second))
    with pytest.raises(MaskError, match=rf"mask.png: value {value} at row 5, column 5, .*Save the mask with 0 and 255"):
        read_mask(path)


def test_such_a_mask_is_a_finding(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        noise = np.random.default_rng(seed).integers(0, 256, (64, 64), dtype=np.uint8)
        saved(tmp_path / "images" / f"{name}.png", noise)
    saved(tmp_path / "masks" / "a.png", regions(50, 200))
    (finding,) = check_dataset(folder_dataset("folder:x", tmp_path), tmp_path).findings
    assert "value 50 at row 5, column 5" in finding


def test_class_numbers_below_128_all_count(tmp_path: Path) -> None:
    mask = regions(1, 90)
    assert np.array_equal(read_mask(saved(tmp_path / "mask.png", mask)), mask > 0)


def test_soft_edges_go_on_and_are_cut_at_127(tmp_path: Path) -> None:
    mask = cv2.GaussianBlur(regions(255, 255), (9, 9), 2)
    assert ((mask > 0) & (mask < 128)).any()
    assert np.array_equal(read_mask(saved(tmp_path / "mask.png", np.asarray(mask, np.uint8))), mask > 127)


@pytest.mark.parametrize("quality", [5, 20, 50, 75, 95])
def test_the_noise_of_a_lossy_format_is_no_class(tmp_path: Path, quality: int) -> None:
    mask = np.zeros((128, 128), np.uint8)
    cv2.ellipse(mask, (50, 40), (30, 7), 35, 0, 360, 255, -1)
    cv2.ellipse(mask, (90, 100), (9, 4), 110, 0, 360, 255, -1)
    read = read_mask(saved(tmp_path / "mask.jpg", mask, cv2.IMWRITE_JPEG_QUALITY, quality))
    assert np.count_nonzero(read != (mask > 127)) < 0.1 * np.count_nonzero(mask)


def test_an_upscaled_mask_with_rings_is_read(tmp_path: Path) -> None:
    large = cv2.resize(regions(255, 255), (128, 128), interpolation=cv2.INTER_LANCZOS4)
    assert read_mask(saved(tmp_path / "mask.png", np.asarray(large, np.uint8))).any()


def test_specks_of_other_values_far_from_a_defect_go_on(tmp_path: Path) -> None:
    """As MagneticTile's published masks hold them."""
    mask = regions(0, 255)
    mask[2:6, 40:44] = np.arange(1, 17, dtype=np.uint8).reshape(4, 4)
    mask[60, 50:57] = 1
    assert np.array_equal(read_mask(saved(tmp_path / "mask.png", mask)), mask == 255)


@pytest.mark.data
def test_published_masks_are_read(magnetic_root: Path) -> None:
    assert all(read_mask(path).ndim == 2 for path in sorted(magnetic_root.glob("MT_*/Imgs/*.png")))


@pytest.mark.parametrize("values", [(1, 1), (1, 2), (100, 200), (300, 32767)])
def test_small_numbers_in_sixteen_bits_all_count(tmp_path: Path, values: tuple[int, int]) -> None:
    mask = regions(*values, dtype=np.uint16)
    assert np.array_equal(read_mask(saved(tmp_path / "mask.tiff", mask)), mask > 0)


def test_white_in_sixteen_bits_counts_and_greys_far_from_it_are_refused(tmp_path: Path) -> None:
    white = regions(65535, 65535, dtype=np.uint16)
    assert np.array_equal(read_mask(saved(tmp_path / "white.png", white)), white > 0)
    path = saved(tmp_path / "mask.png", regions(100, 65535, dtype=np.uint16))
    with pytest.raises(MaskError, match=r"mask.png: value 100 at row 5, .* far from any above 32767"):
        read_mask(path)


def test_a_mask_of_several_pages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    assert cv2.imwritemulti(str(path), [regions(0, 0), regions(255, 255)])
    with pytest.raises(MaskError, match=r"mask.tif: 2 pages, wanted one"):
        read_mask(path)
