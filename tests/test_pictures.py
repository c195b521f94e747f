"""Reading pictures: a damaged file must be refused, never half read; every conversion is the stated one."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segdec_edge.errors import PictureError
from segdec_edge.pictures import (
    SUFFIXES,
    contrast_of,
    decode,
    overlay,
    prepare,
    read_picture,
    refuse_flat,
    refuse_other_size,
)

Array = NDArray[Any]

WAYS_TO_SAVE: dict[str, tuple[str, list[int]]] = {
    "jpeg": (".jpg", []),
    "jpeg progressive": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "jpeg restart markers": (".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
    "png": (".png", []),
    "bmp": (".bmp", []),
    "webp lossless": (".webp", []),
    "webp lossy": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
    "tiff plain": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 1]),
    "tiff lzw": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 5]),
    "tiff deflate": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 8]),
    "tiff one strip": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 1, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 120]),
}


def grey(height: int = 120, width: int = 90) -> Array:
    """No row is like another, so that a missing one shows."""
    rng = np.random.default_rng(0)
    slope = np.add.outer(np.arange(height), np.arange(width))
    return np.asarray(slope % 200 + rng.integers(0, 50, (height, width)), np.uint8)


def colour() -> Array:
    return np.dstack([grey(), grey() // 2, 255 - grey()])


def saved(pixels: Array, suffix: str, options: list[int] | None = None) -> bytes:
    done, data = cv2.imencode(suffix, pixels, options or [])
    assert done
    return data.tobytes()


def tiff_directory_first(pixels: Array) -> bytes:
    """An uncompressed TIFF whose directory precedes its pixels, as most cameras' software writes it."""
    height, width = pixels.shape
    fields = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 0), (277, 1), (278, height)]
    fields.append((279, height * width))
    start = 8 + 2 + 12 * len(fields) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in fields)
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4) + pixels.tobytes()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def refusal(data: bytes) -> str:
    with pytest.raises(PictureError) as caught:
        decode(data, "part.img")
    message = str(caught.value)
    assert message.startswith("part.img: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", sorted(SUFFIXES - {".jpg", ".jpeg"}))
@pytest.mark.parametrize("pixels", [grey(), colour()], ids=["grey", "colour"])
def test_a_lossless_file_comes_back_as_it_was(tmp_path: Path, suffix: str, pixels: Array) -> None:
    path = tmp_path / f"part{suffix}"
    path.write_bytes(saved(pixels, suffix))
    read = read_picture(path)
    assert read.dtype == np.uint8
    if suffix == ".webp" and pixels.ndim == 2:  # this format has no grey
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("way", WAYS_TO_SAVE)
@pytest.mark.parametrize("pixels", [grey(), colour()], ids=["grey", "colour"])
def test_a_cut_file_is_refused_or_lacks_no_pixel(way: str, pixels: Array) -> None:
    suffix, options = WAYS_TO_SAVE[way]
    whole = saved(pixels, suffix, options)
    expected = decode(whole, "whole")
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99):
        refusal(whole[: int(len(whole) * share)])
    for missing in (1, 2, 4, 8, 12, 16):  # the last bytes of some formats are padding
        try:
            np.testing.assert_array_equal(decode(whole[:-missing], "cut"), expected)
        except PictureError:
            continue


@pytest.mark.parametrize("missing", [1, 90, 5000, 10_700])
def test_a_cut_tiff_with_its_directory_first_is_refused(missing: int) -> None:
    whole = tiff_directory_first(grey())
    np.testing.assert_array_equal(decode(whole, "whole"), grey())
    refusal(whole[:-missing])


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("way", ["jpeg", "jpeg progressive", "jpeg restart markers"])
def test_a_cut_jpeg_is_told_as_cut_before_any_decoder_sees_it(way: str, share: float) -> None:
    # Some releases of OpenCV fill the missing rows in silence, so that the decoder's own refusal is not enough.
    suffix, options = WAYS_TO_SAVE[way]
    whole = saved(grey(400, 300), suffix, options)
    assert "the file ends early" in refusal(whole[: int(len(whole) * share)])


def test_a_whole_thumbnail_does_not_make_a_cut_jpeg_whole() -> None:
    thumbnail, whole = saved(grey(16, 16), ".jpg"), saved(grey(), ".jpg")
    holder = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    with_thumbnail = whole[:2] + holder + whole[2:]
    np.testing.assert_array_equal(decode(with_thumbnail, "whole"), decode(whole, "plain"))
    assert "the file ends early" in refusal(with_thumbnail[: -len(whole) // 2])


def test_bytes_after_the_end_of_a_jpeg_do_no_harm() -> None:
    whole = saved(grey(), ".jpg")
    np.testing.assert_array_equal(decode(whole + bytes(4096), "padded"), decode(whole, "plain"))


def test_a_jpeg_whose_second_half_never_reached_the_disk_is_refused() -> None:
    whole = saved(grey(400, 300), ".jpg")
    half = len(whole) // 2
    refusal(whole[:half] + bytes(len(whole) - half))


@pytest.mark.parametrize("damage", ["zeros", "one bit"])
def test_a_damaged_png_is_refused(damage: str) -> None:
    data = bytearray(saved(grey(), ".png"))
    middle = len(data) // 2
    if damage == "zeros":
        data[middle : middle + 512] = bytes(512)
    else:
        data[middle] ^= 0x10
    refusal(bytes(data))


@pytest.mark.parametrize("size", [(1 << 19, 1 << 19), (1 << 21, 10)])
def test_a_header_that_asks_for_too_much_memory_is_refused(size: tuple[int, int]) -> None:
    width, height = size
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    refusal(b"BM" + struct.pack("<IHHI", 154, 0, 0, 54) + header + bytes(100))
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(bytes(100))) + png_chunk(b"IEND", b"")
    refusal(b"\x89PNG\r\n\x1a\n" + head + body)


def test_a_jpeg_that_claims_more_pixels_than_its_bytes_can_hold_is_refused_before_it_is_decoded() -> None:
    data = bytearray(cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8))[1])
    start = data.find(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 60000, 60000)
    with pytest.raises(PictureError, match=r"it says 60000x60000 in \d+ bytes"):
        decode(bytes(data), "huge.jpg")


@pytest.mark.parametrize("progressive", [0, 1])
def test_the_emptiest_jpeg_is_still_read(progressive: int) -> None:
    how = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_OPTIMIZE, 1, cv2.IMWRITE_JPEG_QUALITY, 1]
    data = cv2.imencode(".jpg", np.full((4000, 4000), 128, np.uint8), how)[1].tobytes()
    assert decode(data, "x.jpg").shape == (4000, 4000)


def test_a_damaged_png_is_told_once_and_not_on_stderr_too(capfd: pytest.CaptureFixture[str]) -> None:
    whole = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8))[1].tobytes()
    for at in range(8, len(whole), 50):
        data = bytearray(whole)
        data[at] ^= 4
        with pytest.raises(PictureError):
            decode(bytes(data), "x.png")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"x", b"this is a text, not a picture\n" * 20, bytes(1000)])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=rf"part\.png: not a readable picture \({len(content)} bytes\)"):
        read_picture(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"absent\.png: no such picture"):
        read_picture(tmp_path / "absent.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PictureError, match=r"folder\.png: cannot be read \(Is a directory\)"):
        read_picture(tmp_path / "folder.png")


def test_a_refusal_is_told_once_and_not_on_stderr_too(capfd: pytest.CaptureFixture[str]) -> None:
    for suffix in (".tiff", ".bmp", ".webp"):
        whole = saved(grey(), suffix)
        refusal(whole[: len(whole) // 2])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_scale_over_the_full_range(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 128, 129, 257], [32768, 65407, 65278, 65535]], np.uint16)
    path = tmp_path / f"deep{suffix}"
    path.write_bytes(saved(deep, suffix))
    np.testing.assert_array_equal(read_picture(path), [[0, 0, 1, 1], [128, 255, 254, 255]])


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "float.tiff"
    path.write_bytes(saved(grey().astype(np.float32), ".tiff"))
    with pytest.raises(PictureError, match="pixels of type float32, wanted 8 or 16 bits"):
        read_picture(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_opaque_alpha_channel_is_dropped_and_a_transparent_one_refused(tmp_path: Path, dtype: type) -> None:
    scale = np.iinfo(dtype).max // 255
    opaque = np.dstack([colour(), np.full_like(grey(), 255)]).astype(dtype) * dtype(scale)
    path = tmp_path / "alpha.png"
    path.write_bytes(saved(opaque, ".png"))
    read = read_picture(path)
    np.testing.assert_array_equal(read, colour())
    assert read.flags.c_contiguous

    opaque[5, 5, 3] = 254 * scale
    path.write_bytes(saved(opaque, ".png"))
    with pytest.raises(PictureError, match="parts of it are transparent"):
        read_picture(path)


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    entry = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)  # orientation: turn by 90°
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    whole = saved(grey(), ".jpg")
    path = tmp_path / "turned.jpg"
    path.write_bytes(whole[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + whole[2:])
    assert cv2.imread(str(path)).shape == (90, 120, 3)  # the mark is valid: other readers do turn it
    assert read_picture(path).shape == (120, 90)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", [grey(), colour()], ids=["grey", "colour"])
def test_prepare_gives_the_shape_that_the_network_takes(pixels: Array, channels: int) -> None:
    for size_hw in ((120, 90), (64, 64), (128, 96)):
        ready = prepare(pixels, size_hw, channels)
        assert ready.shape == (*size_hw, channels)
        assert ready.dtype == np.uint8
        assert ready.flags.c_contiguous


def test_prepare_leaves_a_picture_that_fits_as_it_is() -> None:
    np.testing.assert_array_equal(prepare(grey(), (120, 90), 1)[:, :, 0], grey())
    np.testing.assert_array_equal(prepare(colour(), (120, 90), 3), colour())


def test_grey_is_the_usual_weighting_of_bgr() -> None:
    blue, green, red = (np.zeros((8, 8, 3), np.uint8) for _ in range(3))
    blue[..., 0], green[..., 1], red[..., 2] = 255, 255, 255
    assert [int(prepare(pure, (8, 8), 1)[0, 0, 0]) for pure in (blue, green, red)] == [29, 150, 76]
    np.testing.assert_array_equal(prepare(grey(), (120, 90), 3), np.dstack([grey()] * 3))


def test_resize_is_bilinear_with_pixel_centres_aligned() -> None:
    step = np.array([[0, 100]], np.uint8)
    np.testing.assert_array_equal(prepare(step, (1, 4), 1)[0, :, 0], [0, 25, 75, 100])
    quarter = np.array([[0, 40], [80, 120]], np.uint8)
    np.testing.assert_array_equal(prepare(quarter, (1, 1), 1)[0, 0], [60])


def test_a_view_into_a_larger_frame_prepares_like_its_copy() -> None:
    view = colour()[10:90:2, ::-1]
    np.testing.assert_array_equal(prepare(view, (64, 64), 1), prepare(view.copy(), (64, 64), 1))


def test_overlay_shows_the_picture_where_nothing_is_hot() -> None:
    heatmap = np.zeros((15, 11), np.float32)
    np.testing.assert_array_equal(overlay(grey(), heatmap), np.dstack([grey()] * 3))
    heatmap[7, 5] = 1.0
    tinted = overlay(colour(), heatmap)
    changed = (tinted != colour()).any(axis=2)
    assert changed[60, 45]
    assert not changed[:40].any()
    heatmap[7, 5] = np.nan
    np.testing.assert_array_equal(overlay(colour(), heatmap)[:40], colour()[:40])


@pytest.mark.parametrize("channels", [1, 3])
def test_flat_picture_is_refused_and_the_faintest_noise_is_not(channels: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.7, (64, 48, channels))
    seen = np.round(128 + noise).astype(np.uint8)
    assert refuse_flat(seen, "seen") is seen
    dark = np.zeros((64, 48, channels), np.uint8)
    dark[5, 7] = 20  # one hot pixel is no picture
    with pytest.raises(PictureError, match=r"^lid: a picture without contrast .* Check light"):
        refuse_flat(dark, "lid")


def test_one_channel_with_contrast_is_enough() -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:16, :, 2] = 9
    assert refuse_flat(picture, "red") is picture


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_is_the_largest_of_any_channel(channels: int) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (40, 30, channels)).astype(np.uint8)
    picture[:, :, 0] //= 2
    assert contrast_of(picture) == pytest.approx(max(picture[:, :, one].std() for one in range(channels)))


def _jpeg(pixels: Array, *how: int) -> bytes:
    return bytes(cv2.imencode(".jpg", pixels, list(how))[1])


@pytest.mark.parametrize("how", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
@pytest.mark.parametrize("pixels", [grey(), colour()], ids=["grey", "colour"])
def test_a_jpeg_is_read_as_opencv_reads_it(pixels: Array, how: tuple[int, ...]) -> None:
    data = _jpeg(pixels, *how)
    np.testing.assert_array_equal(decode(data, "x"), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))


@pytest.mark.parametrize("damage", ["cut and ended", "zeroed", "hole"])
def test_a_jpeg_damaged_before_its_end_marker_is_refused(damage: str) -> None:
    data = _jpeg(grey())
    middle = len(data) // 2
    damaged = {
        "cut and ended": data[:middle] + b"\xff\xd9",
        "zeroed": data[:middle] + bytes(200) + data[middle + 200 :],
        "hole": data[:middle] + data[middle + 900 :],
    }[damage]
    with pytest.raises(PictureError, match=r"^x: a damaged JPEG \(.*\), wanted a whole picture"):
        decode(damaged, "x")


def test_bytes_behind_a_whole_jpeg_do_no_harm() -> None:
    data = _jpeg(grey())
    np.testing.assert_array_equal(decode(data + b"a camera's own data", "x"), decode(data, "x"))


def test_a_name_that_no_file_can_have_is_a_picture_error() -> None:
    with pytest.raises(PictureError, match="no file can have this name"):
        read_picture(Path("a\0b.png"))


@pytest.mark.parametrize(("size_hw", "fits"), [
    ((100, 50), True), ((220, 132), True), ((91, 46), True), ((89, 50), False), ((100, 44), False), ((223, 100), False),
    ((64, 64), False), ((10, 120), False),
])  # fmt: skip
def test_sides_far_from_those_trained_on_are_refused(size_hw: tuple[int, int], fits: bool) -> None:
    picture = np.zeros(size_hw, np.uint8)
    assert refuse_other_size(picture, None, "x") is picture
    if fits:
        assert refuse_other_size(picture, ((100, 50), (200, 120)), "x") is picture
    else:
        with pytest.raises(PictureError, match=r"\(HxW\), trained on 100x50 to 200x120, wanted sides within 10 %"):
            refuse_other_size(picture, ((100, 50), (200, 120)), "x")
