"""The data check: a clean set has no finding, and each thing that can be wrong has exactly one line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segdec_edge.data.check import CheckReport, DefectArea, check_dataset, render
from segdec_edge.data.folder import folder_dataset
from segdec_edge.data.kolektor import kolektor_dataset
from segdec_edge.data.spec import open_dataset

Array = NDArray[Any]
SIZE_HW = (60, 80)


def texture(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> Array:
    return np.random.default_rng(seed).integers(0, 256, size_hw, dtype=np.uint8)


def mask_of(rows: int, size_hw: tuple[int, int] = SIZE_HW) -> Array:
    mask = np.zeros(size_hw, np.uint8)
    mask[:rows] = 255
    return mask


def save(path: Path, pixels: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Five good parts, one of them with an empty mask, and three defective ones, all unlike."""
    for seed in range(5):
        save(tmp_path / "images" / f"good{seed}.png", texture(seed))
    save(tmp_path / "masks" / "good0.png", mask_of(0))
    for rows in (6, 12, 30):
        save(tmp_path / "images" / f"defect{rows}.png", texture(100 + rows))
        save(tmp_path / "masks" / f"defect{rows}.png", mask_of(rows))
    return tmp_path


def checked(root: Path) -> CheckReport:
    return check_dataset(folder_dataset(f"folder:{root}", root, to_check=True), root)


def only_finding(root: Path) -> str:
    (finding,) = checked(root).findings
    assert "\n" not in finding
    return finding


def test_a_clean_set_is_counted_and_has_no_finding(clean: Path) -> None:
    assert checked(clean) == CheckReport(
        spec=f"folder:{clean}",
        pictures=8,
        parts=8,
        positives=3,
        positives_without_mask=0,
        sizes_hw=((SIZE_HW, 8),),
        channels=((1, 8),),
        defect_area=DefectArea(0.1, 0.2, 0.5),
        findings=(),
    )


def test_a_generated_set_is_checked_without_a_folder() -> None:
    report = check_dataset(open_dataset("synthetic:seed=0,n=4,size=128x128,defects=0.5"), None)
    assert (report.pictures, report.sizes_hw, report.findings) == (4, (((128, 128), 4),), ())
    assert report.defect_area is not None


def test_progress_counts_every_picture_once(clean: Path) -> None:
    told: list[tuple[int, int]] = []
    check_dataset(folder_dataset("folder:x", clean), clean, progress=lambda done, of: told.append((done, of)))
    assert told == [(done, 8) for done in range(1, 9)]


def test_lists_licences_and_results_beside_the_pictures_are_no_finding(clean: Path) -> None:
    (clean / "README.md").write_text("mine")
    (clean / "results").mkdir()
    save(clean / "results" / "overlay.png", texture(7))
    (clean / "images" / ".DS_Store").write_bytes(b"")
    (clean / "images" / "Thumbs.db").write_bytes(b"")
    assert checked(clean).findings == ()


def test_a_truncated_picture_and_mask_are_told(clean: Path) -> None:
    cut(clean / "images" / "good1.png")
    cut(clean / "masks" / "defect6.png")
    report = checked(clean)
    assert (report.pictures, report.positives, report.channels) == (8, 3, ((1, 7),))
    mask, picture = report.findings
    assert "defect6.png: the file ends early" in mask
    assert picture.startswith(f"{clean / 'images' / 'good1.png'}: the file ends early")


def test_a_picture_and_its_mask_both_unreadable_are_two_lines(clean: Path) -> None:
    cut(clean / "images" / "defect6.png")
    cut(clean / "masks" / "defect6.png")
    assert len(checked(clean).findings) == 2


def test_a_text_named_as_a_picture_is_told(clean: Path) -> None:
    (clean / "images" / "good9.png").write_text("not a picture")
    assert "good9.png: not a readable picture" in only_finding(clean)


def test_transparent_pictures_are_told_as_training_would_refuse_them(clean: Path) -> None:
    save(clean / "images" / "good1.png", np.dstack([texture(1)] * 4))
    assert "good1.png: parts of it are transparent" in only_finding(clean)


@pytest.mark.parametrize("name", ["defect6", "good0"])
def test_a_mask_of_another_size_is_told(clean: Path, name: str) -> None:
    save(clean / "masks" / f"{name}.png", mask_of(0 if name == "good0" else 6, (80, 60)))
    assert only_finding(clean).startswith(f"{name}: its mask is 80×60 (h×w), the picture 60×80.")


def test_an_unreadable_mask_of_a_sorted_good_part_is_told(tmp_path: Path) -> None:
    save(tmp_path / "good" / "1.png", texture(1))
    save(tmp_path / "defect" / "2.png", texture(2))
    cut(save(tmp_path / "masks" / "1.png", mask_of(0)))
    assert "1.png: the file ends early" in only_finding(tmp_path)


def test_an_empty_mask_of_a_sorted_defect_is_told(tmp_path: Path) -> None:
    save(tmp_path / "good" / "1.png", texture(1))
    save(tmp_path / "defect" / "1.png", texture(2))
    save(tmp_path / "defect" / "2.png", texture(3))
    save(tmp_path / "masks" / "1.png", mask_of(0))
    assert only_finding(tmp_path).startswith("defect/1: counts as defective, but its mask is empty.")
    report = checked(tmp_path)
    assert (report.positives, report.positives_without_mask, report.defect_area) == (2, 1, None)


def test_a_mask_that_marks_a_sorted_good_part_is_told(tmp_path: Path) -> None:
    save(tmp_path / "good" / "lot" / "1.png", texture(1))
    save(tmp_path / "defect" / "2.png", texture(2))
    save(tmp_path / "masks" / "lot" / "1.png", mask_of(5))
    assert only_finding(tmp_path).startswith("good/lot/1: counts as good, but its mask marks a defect.")


def test_a_mask_without_a_picture_is_told(clean: Path) -> None:
    save(clean / "masks" / "lone.png", mask_of(5))
    assert only_finding(clean).startswith(f"{clean / 'masks' / 'lone.png'}: a mask without a picture of that name.")


def test_a_mask_in_another_format_is_told(clean: Path) -> None:
    (clean / "masks" / "good1.gif").write_bytes(b"a mask that would not count")
    assert only_finding(clean).startswith(f"{clean / 'masks' / 'good1.gif'}: is no picture by its name.")


@pytest.mark.parametrize("place", ["images/list.txt", "masks/labels.json", "images/part.gif"])
def test_a_file_that_is_no_picture_is_told(clean: Path, place: str) -> None:
    (clean / place).write_bytes(b"something")
    assert only_finding(clean).startswith(f"{clean / place}: is no picture by its name.")


def test_a_lossless_copy_in_another_format_is_a_duplicate(clean: Path) -> None:
    save(clean / "images" / "copy.tiff", texture(1))
    assert only_finding(clean) == (
        "duplicates: 1 picture more than once, first copy = good1, in different parts (copy, good1):"
        " a split by part can leak. Keep one of each, or give them one part."
    )


def test_a_grey_picture_saved_as_colour_is_still_a_duplicate(clean: Path) -> None:
    save(clean / "images" / "copy.bmp", np.dstack([texture(1)] * 3))
    findings = checked(clean).findings
    assert len(findings) == 2
    assert findings[0].startswith("1 colour and 8 grey") or findings[0].startswith("8 grey and 1 colour")
    assert findings[1].startswith("duplicates: 1 picture more than once, first copy = good1")


def test_pictures_of_the_same_bytes_in_another_shape_are_no_duplicates(clean: Path) -> None:
    save(clean / "images" / "other.png", texture(1).reshape(64, 75))
    assert not any("duplicates" in finding for finding in checked(clean).findings)


def test_duplicates_with_different_labels_are_told(clean: Path) -> None:
    save(clean / "images" / "copy.png", texture(1))
    save(clean / "masks" / "copy.png", mask_of(5))
    assert "first copy = good1, 1 with different labels, in different parts" in only_finding(clean)


def test_duplicates_with_different_masks_are_told(clean: Path) -> None:
    save(clean / "images" / "copy.png", texture(106))
    save(clean / "masks" / "copy.png", mask_of(7))
    assert "first copy = defect6, 1 with different masks, in different parts" in only_finding(clean)
    save(clean / "masks" / "copy.png", mask_of(6))
    assert "first copy = defect6, in different parts" in only_finding(clean)


def test_duplicates_in_one_part_do_not_leak_but_are_told(clean: Path) -> None:
    for name in ("lot/1", "lot/2", "lot/3"):
        save(clean / "images" / f"{name}.png", texture(50))
    assert only_finding(clean) == (
        "duplicates: 1 picture more than once, first lot/1 = lot/2 = lot/3, all in part lot. Keep one of each."
    )


def test_parts_that_share_many_pictures_get_one_line(clean: Path) -> None:
    for seed in range(50, 54):
        save(clean / "images" / "lot1" / f"{seed}.png", texture(seed))
        save(clean / "images" / "lot2" / f"{seed}.png", texture(seed))
    finding = only_finding(clean)
    assert finding.startswith("duplicates: 4 pictures more than once, first lot1/50 = lot2/50, in different parts")
    assert "(lot1, lot2)" in finding


def deep_pictures(root: Path, values: Iterable[int]) -> None:
    for number, value in enumerate(values):
        pixels = texture(200 + number).astype(np.uint16) * 16
        pixels[pixels > value] = value
        pixels[0, 0] = value
        save(root / "images" / f"deep{number}.png", pixels)


def test_sixteen_bit_pictures_with_twelve_bit_values_are_told(clean: Path) -> None:
    deep_pictures(clean, [4095, 4096, 1000])
    assert only_finding(clean).startswith("2 of 3 16-bit pictures hold no value above 4095, first deep0:")


def test_full_sixteen_bit_and_black_pictures_are_no_finding(clean: Path) -> None:
    deep_pictures(clean, [65535, 4096, 0])
    assert checked(clean).findings == ()


def test_mixed_grey_and_colour_is_told_with_the_rarer_one(clean: Path) -> None:
    save(clean / "images" / "good1.png", np.dstack([texture(seed) for seed in (1, 2, 3)]))
    assert only_finding(clean) == (
        "7 grey and 1 colour pictures are mixed, first colour one good1. Save them all alike."
    )


def test_sizes_that_keep_the_shape_are_information(clean: Path) -> None:
    save(clean / "images" / "wide.png", texture(50, (60, 87)))
    save(clean / "images" / "twice.png", texture(51, (120, 160)))
    report = checked(clean)
    assert report.findings == ()
    assert report.sizes_hw == ((SIZE_HW, 8), ((120, 160), 1), ((60, 87), 1))


def test_shapes_that_differ_by_more_than_a_tenth_are_told(clean: Path) -> None:
    save(clean / "images" / "wide.png", texture(50, (60, 89)))
    assert only_finding(clean).endswith(
        "wide 60×89 (h×w). Resizing distorts such pictures unlike: crop them to one shape."
    )


@pytest.mark.parametrize(("kind", "told"), [("good", "none of 1 picture is"), ("defect", "all of 1 picture are")])
def test_one_kind_only_is_told(tmp_path: Path, kind: str, told: str) -> None:
    save(tmp_path / kind / "1.png", texture(1))
    assert only_finding(tmp_path).startswith(told)


def test_a_set_without_one_readable_picture_is_reported_too(tmp_path: Path) -> None:
    cut(save(tmp_path / "good" / "1.png", texture(1)))
    cut(save(tmp_path / "defect" / "1.png", texture(1)))
    report = checked(tmp_path)
    assert (report.sizes_hw, report.channels, len(report.findings)) == ((), (), 2)
    assert "sizes (h×w)   none" in render(report)


def test_render_tells_counts_and_one_line_a_finding(clean: Path) -> None:
    text = render(checked(clean))
    assert "8 of 8 parts" in text
    assert "5 good, 3 defective\n" in text
    assert "60×80 8" in text
    assert "smallest 10 %, median 20 %, largest 50 % of the picture" in text
    assert text.splitlines()[-1] == "findings      none"
    save(clean / "masks" / "lone.png", mask_of(5))
    save(clean / "images" / "copy.tiff", texture(1))
    report = checked(clean)
    assert render(report).splitlines()[-2:] == [f"  {finding}" for finding in report.findings]


def test_render_sums_up_many_sizes(clean: Path) -> None:
    for height in range(61, 65):
        save(clean / "images" / f"high{height}.png", texture(height, (height, 80)))
    assert "60 to 64 high, 80 wide, 5 sizes, most often 60×80 8" in render(checked(clean))


def test_defects_without_masks_are_counted_not_told(tmp_path: Path) -> None:
    save(tmp_path / "good" / "1.png", texture(1))
    save(tmp_path / "defect" / "1.png", texture(2))
    report = checked(tmp_path)
    assert (report.positives_without_mask, report.findings) == (1, ())
    assert "1 good, 1 defective (1 without a mask)" in render(report)


@pytest.mark.data
def test_kolektor_is_as_published_and_its_duplicates_are_one_line_a_pair(kolektor_root: Path) -> None:
    report = check_dataset(kolektor_dataset("kolektor:x", kolektor_root), kolektor_root)
    assert (report.pictures, report.parts, report.positives, report.positives_without_mask) == (399, 50, 52, 0)
    assert report.channels == ((1, 399),)
    assert {width for (_, width), _ in report.sizes_hw} == {500}
    assert (min(report.sizes_hw)[0][0], max(report.sizes_hw)[0][0]) == (1235, 1285)
    assert len(report.findings) == 2
    for finding, (first, second) in zip(report.findings, (("kos01", "kos26"), ("kos27", "kos34")), strict=True):
        assert finding.startswith(f"duplicates: 8 pictures more than once, first {first}/Part0 = {second}/Part0, ")
        assert f"in different parts ({first}, {second}): a split by part can leak." in finding
