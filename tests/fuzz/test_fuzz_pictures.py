"""Damaged pictures through the real replay camera, the real inspection and a real bundle: UNKNOWN, or judged truly.

Every original shows a defect, so OK would be a missed part. PNG carries checksums: whatever is wrong in it is UNKNOWN.
JPEG, BMP, TIFF and WebP have none: a bit that flips inside their pixels makes another whole picture, and nobody can
tell. Cut short they are all refused. A real camera's frames never take this way (cameras/); a replay's do.
"""

from __future__ import annotations

import io
import os
import random
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.config.station import load_station
from segdec_edge.errors import PictureError
from segdec_edge.outputs.ledger import Row, read_rows
from segdec_edge.pictures import decode, to_eight_bit
from segdec_edge.station.run import run
from tests.deploy.bright_parts import SIZE_HW, THRESHOLD, bright_bundle

GREY = np.clip(np.random.default_rng(0).normal(200, 25, (48, 64)), 0, 255).astype(np.uint8)
COLOUR = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])
OTHERS = {
    "jpg": (".jpg", []),
    "jpg_progressive": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "bmp": (".bmp", []),
    "tiff": (".tiff", []),
    "tiff_plain": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 1]),
    "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
    "webp_lossless": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
}
MEGABYTES = 400
"""What a run over all of them may add to the process at its peak; one unguarded header took 4 GB."""

Case = tuple[str, bytes]


def encoded(pixels: np.ndarray, suffix: str, how: list[int] | None = None) -> bytes:
    return cv2.imencode(suffix, pixels, how or [])[1].tobytes()


def damaged(data: bytes, chance: random.Random, kind: str) -> bytes:
    content = bytearray(data)
    at = chance.randrange(len(content))
    match kind:
        case "cut":
            return bytes(content[:at])
        case "flip":
            content[at] ^= 1 << chance.randrange(8)
        case "bytes":
            count = chance.randrange(1, 30)
            content[at : at + count] = chance.randbytes(count)
        case "hole":
            content[at : at + chance.randrange(1, 600)] = b""
        case "zeros":
            content[at:] = bytes(len(content) - at)
    return bytes(content)


def refused_cases(chance: random.Random) -> Iterator[Case]:
    """Pictures that must be UNKNOWN, or decode to the original's pixels."""
    pngs = {
        "grey": encoded(GREY, ".png"),
        "colour": encoded(COLOUR, ".png"),
        "deep": encoded(GREY.astype(np.uint16) * 257, ".png"),
    }
    for name, data in pngs.items():
        for kind in ("cut", "flip", "bytes", "hole", "zeros"):
            for number in range(24):
                yield f"png_{name}_{kind}_{number}.png", damaged(data, chance, kind)
    for name, (suffix, how) in OTHERS.items():
        data = encoded(COLOUR, suffix, how)
        for number in range(30):
            yield f"{name}_cut_{number}{suffix}", damaged(data, chance, "cut")
    for number in range(60):
        suffix = chance.choice([".png", ".jpg", ".bmp", ".tiff", ".webp"])
        start = encoded(GREY, suffix)[: chance.randrange(12)] if number % 2 else b""
        yield f"noise_{number}{suffix}", start + chance.randbytes(chance.randrange(3000))
    for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp"):
        yield f"empty{suffix}", b""
        yield f"text{suffix}", b"the camera was not connected\n"
        yield f"nothing{suffix}", bytes(5000)
        yield f"flat{suffix}", encoded(np.full((48, 64), 210, np.uint8), suffix)
        yield f"dot{suffix}", encoded(np.full((1, 1), 210, np.uint8), suffix)
    yield "float.tiff", encoded(GREY.astype(np.float32), ".tiff")
    yield "clear.png", encoded(np.dstack([COLOUR, GREY // 2]), ".png")
    yield from huge_cases()


def huge_cases() -> Iterator[Case]:
    """Headers that claim far more pixels than there are."""
    for width, height in ((30_000, 30_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)):
        png = bytearray(encoded(GREY, ".png"))
        png[16:24] = struct.pack(">II", width, height)
        png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
        yield f"huge_{width}.png", bytes(png)
        bmp = bytearray(encoded(GREY, ".bmp"))
        bmp[18:26] = struct.pack("<ii", width, height)
        yield f"huge_{width}.bmp", bytes(bmp)
        jpg = bytearray(encoded(GREY, ".jpg"))
        start = jpg.find(b"\xff\xc0")
        jpg[start + 5 : start + 9] = struct.pack(">HH", min(height, 65_500), min(width, 65_500))
        yield f"huge_{width}.jpg", bytes(jpg)


def untold_cases(chance: random.Random) -> Iterator[Case]:
    """Damage inside formats without checksums: refused, or judged by the pixels that they now say."""
    for name, (suffix, how) in OTHERS.items():
        data = encoded(COLOUR, suffix, how)
        for kind in ("flip", "bytes", "hole", "zeros"):
            for number in range(16):
                yield f"untold_{name}_{kind}_{number}{suffix}", damaged(data, chance, kind)


def true_cases() -> Iterator[Case]:
    """Strange, but whole: they get the true verdict."""
    yield "true_grey.png", encoded(GREY, ".png")
    yield "true_deep.png", encoded(GREY.astype(np.uint16) * 257, ".png")
    yield "true_deep.tiff", encoded(GREY.astype(np.uint16) * 257, ".tiff")
    yield "true_opaque.png", encoded(np.dstack([COLOUR, np.full_like(GREY, 255)]), ".png")
    yield "true_png_called.jpg", encoded(GREY, ".png")
    yield "true_jpg_called.bmp", encoded(GREY, ".jpg")
    yield "true_tail.jpg", encoded(GREY, ".jpg") + b"tail"
    yield "true_tail.png", encoded(GREY, ".png") + b"tail"
    pillow = pytest.importorskip("PIL.Image")
    for name, mode in (("cmyk.jpg", "CMYK"), ("palette.png", "P")):
        out = io.BytesIO()
        pillow.fromarray(GREY).convert("RGB").convert(mode).save(out, format="JPEG" if mode == "CMYK" else "PNG")
        yield f"true_{name}", out.getvalue()


def expected_label(data: bytes) -> str:
    """By the pixels that a file decodes to: this bundle's score is their mean brightness."""
    try:
        pixels = to_eight_bit(decode(data, "x"), "x")
    except PictureError:
        return "UNKNOWN"
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY) if pixels.ndim == 3 else pixels
    small = cv2.resize(grey, SIZE_HW[::-1], interpolation=cv2.INTER_LINEAR)
    if small.std() < 0.5:
        return "UNKNOWN"
    mean = float(small.mean()) / 255
    return "?" if abs(mean - THRESHOLD) < 1e-3 else "DEFECT" if mean > THRESHOLD else "OK"


def is_original(data: bytes) -> bool:
    try:
        pixels = to_eight_bit(decode(data, "x"), "x")
    except PictureError:
        return False
    return any(pixels.shape == one.shape and np.array_equal(pixels, one) for one in (GREY, COLOUR))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, Row]]:
    """Every case in one run of a station, by name."""
    folder = tmp_path_factory.mktemp("pictures")
    chance = random.Random(11)
    cases = dict([*refused_cases(chance), *untold_cases(chance), *true_cases()])
    assert len(cases) >= 1000
    (folder / "parts").mkdir()
    for name, data in cases.items():
        (folder / "parts" / name).write_bytes(data)
    bright_bundle(folder / "bright.bundle", None)
    (folder / "station.toml").write_text(
        '[station]\nbundle = "bright.bundle"\nbackend = "onnxruntime"\n'
        '[camera]\npath = "parts"\n[archive]\nkeep = "none"\n'
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary = run(load_station(folder / "station.toml"))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES
    assert summary.parts == len(cases)
    rows = {Path(row.source).name: row for row in read_rows(folder / "ledger.sqlite", summary.run_id)}
    return {name: (data, rows[name]) for name, data in cases.items()}


def test_each_has_one_row_and_one_reason_and_none_is_a_bug(judged: dict[str, tuple[bytes, Row]]) -> None:
    for name, (_, row) in judged.items():
        assert row.reason.isprintable() and 0 < len(row.reason) <= 500, name
        assert "Error:" not in row.reason, (name, row.reason)  # how the supervisor tells a bug
        if row.verdict == "UNKNOWN":
            assert "wanted" in row.reason, (name, row.reason)


def test_what_is_refused_is_unknown_unless_no_pixel_changed(judged: dict[str, tuple[bytes, Row]]) -> None:
    checked = [name for name in judged if not name.startswith(("untold_", "true_"))]
    assert len(checked) > 500
    for name in checked:
        data, row = judged[name]
        assert row.verdict == ("DEFECT" if is_original(data) else "UNKNOWN"), (name, row.reason)


def test_no_defect_passes_by_damage_unless_the_file_says_other_pixels(judged: dict[str, tuple[bytes, Row]]) -> None:
    kinds = {"UNKNOWN": 0, "OK": 0, "DEFECT": 0}
    for name, (data, row) in judged.items():
        expected = expected_label(data)
        assert row.verdict == expected or expected == "?", (name, row.verdict, row.reason)
        kinds[row.verdict] += 1
    assert kinds["UNKNOWN"] > 600


def test_strange_but_whole_pictures_are_judged_truly(judged: dict[str, tuple[bytes, Row]]) -> None:
    found = {name: row.verdict for name, (_, row) in judged.items() if name.startswith("true_")}
    assert len(found) == 10
    assert set(found.values()) == {"DEFECT"}


def test_the_command_line_goes_on_and_tells_each_fault_once(tmp_path: Path) -> None:
    chance = random.Random(2)
    (tmp_path / "parts").mkdir()
    for number in range(20):
        data = damaged(encoded(COLOUR, ".png"), chance, "flip") if number % 2 else encoded(COLOUR, ".png")
        (tmp_path / "parts" / f"{number:02}.png").write_bytes(data)
    bright_bundle(tmp_path / "bright.bundle", None)
    (tmp_path / "station.toml").write_text(
        '[station]\nbundle = "bright.bundle"\nbackend = "onnxruntime"\n[camera]\npath = "parts"\n'
    )
    command = [sys.executable, "-c", "from segdec_edge.cli import main; main()", "run", "station.toml"]
    environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert all("is UNKNOWN: " in line for line in done.stderr.splitlines())
    # A picture that is lost has its verdict at once.
    rows = sorted(read_rows(tmp_path / "ledger.sqlite"), key=lambda row: row.sequence)
    labels = [row.verdict for row in rows]
    assert labels == ["DEFECT", "UNKNOWN"] * 10
