"""Pictures that EXIF turns: their masks lie elsewhere. With a mask they are refused, without one they are not."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.data.check import check_dataset
from segdec_edge.data.exif import orientation
from segdec_edge.data.folder import folder_dataset
from segdec_edge.data.samples import UnmaskedSample
from segdec_edge.errors import PictureError


def block(value: int, order: str = "<") -> bytes:
    start = b"II*\0" if order == "<" else b"MM\0*"
    software = struct.pack(f"{order}HHII", 0x0131, 2, 4, 0)
    turn = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, value, 0)
    return start + struct.pack(f"{order}IH", 8, 2) + software + turn + bytes(4)


def encoded(suffix: str, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32), dtype=np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def with_exif(suffix: str, exif: bytes, seed: int = 0) -> bytes:
    data = encoded(suffix, seed)
    match suffix:
        case ".jpg":
            segment = b"Exif\0\0" + exif
            return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
        case ".png":
            chunk = b"eXIf" + exif
            return data[:-12] + struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[-12:]
    padded = exif + bytes(len(exif) % 2)
    return data + b"EXIF" + struct.pack("<I", len(exif)) + padded


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_the_orientation_is_read_from_the_header(suffix: str, order: str) -> None:
    assert [orientation(with_exif(suffix, block(value, order))) for value in range(10)] == [1, 1, *range(2, 9), 1]
    assert orientation(encoded(suffix)) == 1


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"XX*\0" + bytes(20), block(3)[:20], b"II*\0\xff\xff\xff\xff"])
def test_a_broken_block_says_nothing(exif: bytes) -> None:
    assert orientation(with_exif(".jpg", exif)) == 1


def parts(root: Path, suffix: str, value: int) -> Path:
    """A good picture and a defective one, both turned by EXIF."""
    for below in ("images", "masks"):
        (root / below).mkdir()
    for seed, name in enumerate(("bad", "good")):
        (root / "images" / f"{name}{suffix}").write_bytes(with_exif(suffix, block(value), seed))
    mask = np.zeros((24, 32), np.uint8)
    mask[:4] = 255
    cv2.imwrite(str(root / "masks" / "bad.png"), mask)
    return root


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_turned_picture_with_a_mask_is_a_finding_and_not_trained_on(tmp_path: Path, suffix: str) -> None:
    dataset = folder_dataset("folder:x", parts(tmp_path, suffix, 3))
    report = check_dataset(dataset, tmp_path)
    (finding,) = report.findings
    assert finding.startswith(f"{tmp_path / 'images' / f'bad{suffix}'}: its EXIF data turns it (orientation 3)")
    assert report.defect_area is not None, "the mask is still counted"
    bad, good = dataset.samples
    for sample in (bad, UnmaskedSample(bad)):
        with pytest.raises(PictureError, match="its EXIF data turns it"):
            sample.read()
    assert good.read().shape[:2] == (24, 32)


def test_an_upright_picture_with_exif_is_fine(tmp_path: Path) -> None:
    dataset = folder_dataset("folder:x", parts(tmp_path, ".jpg", 1))
    assert check_dataset(dataset, tmp_path).findings == ()
    assert dataset.samples[0].read().shape == (24, 32)
