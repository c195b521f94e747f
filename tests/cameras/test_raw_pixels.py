"""Raw pictures as a device sends them, by the stated rules."""

from __future__ import annotations

import numpy as np
import pytest

from segdec_edge.cameras.raw_pixels import bytes_needed, to_pixels


@pytest.mark.parametrize(
    ("name", "values"), [("Mono10", [0, 4, 1023]), ("Mono12", [0, 16, 4095]), ("Mono16", [0, 256, 65535])]
)
def test_the_highest_eight_bits_are_kept(name: str, values: list[int]) -> None:
    raw = np.array(values, "<u2").view(np.uint8)
    assert raw.size == bytes_needed(name, 1, 3)
    assert to_pixels(raw, name, 1, 3).tolist() == [[0, 1, 255]]


def test_bits_that_should_be_zero_never_wrap_to_dark() -> None:
    raw = np.array([0xFFFF], "<u2").view(np.uint8)
    assert to_pixels(raw, "Mono12", 1, 1).tolist() == [[255]]


@pytest.mark.parametrize(
    ("name", "red_at"), [("BayerRG8", (0, 0)), ("BayerGR8", (0, 1)), ("BayerGB8", (1, 0)), ("BayerBG8", (1, 1))]
)
def test_bayer_patterns_start_where_their_name_says(name: str, red_at: tuple[int, int]) -> None:
    mosaic = np.zeros((16, 16), np.uint8)
    mosaic[red_at[0] :: 2, red_at[1] :: 2] = 200
    pixels = to_pixels(mosaic.ravel(), name, 16, 16)
    assert pixels.shape == (16, 16, 3)
    blue, green, red = (int(value) for value in np.median(pixels[4:-4, 4:-4], axis=(0, 1)))
    assert (blue, green, red) == (0, 0, 200)


@pytest.mark.parametrize(("name", "expected"), [("RGB8", [3, 2, 1]), ("BGR8", [1, 2, 3])])
def test_colours_become_bgr(name: str, expected: list[int]) -> None:
    assert to_pixels(np.array([1, 2, 3], np.uint8), name, 1, 1).tolist() == [[expected]]


@pytest.mark.parametrize("name", ["Mono8", "Mono16", "BayerRG8", "RGB8", "BGR8"])
def test_a_picture_has_its_own_memory_and_padding_is_left_out(name: str) -> None:
    raw = np.full(bytes_needed(name, 4, 6) + 5, 9, np.uint8)
    pixels = to_pixels(raw, name, 4, 6)
    before = pixels.copy()
    raw[:] = 200
    assert np.array_equal(pixels, before)
    assert pixels.shape[:2] == (4, 6)
    assert pixels.flags.c_contiguous
