"""Calibration manifests: training pictures only, diverse, and refused where anything changed."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from segdec_edge.bundle import Bundle, write_bundle
from segdec_edge.data.spec import open_dataset
from segdec_edge.deploy.calibration import FEWEST, choose, manifest_data, read_manifest, write_manifest
from segdec_edge.errors import CalibrationError, ConfigError
from tests.deploy.made_bundles import SPEC, made_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return made_bundle(tmp_path_factory.mktemp("calibration"))


def on_disk(folder: Path, bundle: Bundle, count: int = 24) -> tuple[str, Bundle]:
    """A data set in the folder layout, every third part defective, all training pictures but the last two."""
    for kind in ("good", "defect"):
        (folder / "parts" / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        kind = "good" if number % 3 else "defect"
        pixels = rng.integers(0, 60 + 8 * number, (128, 64)).astype(np.uint8)
        cv2.imwrite(str(folder / "parts" / kind / f"p{number:02}.png"), pixels)
    spec = f"folder:{folder / 'parts'}"
    names = [sample.name for sample in open_dataset(spec).samples]
    split = {"train": names[:-2], "validation": [], "test": names[-2:], "how": "by hand"}
    made = write_bundle(
        folder / "disk.bundle", onnx_bytes=bundle.model_path.read_bytes(), meta=bundle.meta, split=split
    )
    return spec, made


def test_pictures_are_training_ones_and_half_of_them_defective(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "calibration" / "parts.toml"
    manifest = write_manifest(path, bundle, SPEC, count=16)
    split = bundle.split()
    assert split is not None
    assert {picture.name for picture in manifest.pictures} <= set(split["train"])
    assert sum(picture.defective for picture in manifest.pictures) == 8
    read = read_manifest(path, bundle)
    assert read.manifest == manifest
    assert manifest_data(read) == SPEC
    assert [one.shape for one in read.pixels()] == [(1, 128, 64, 1)] * 16


def test_the_same_seed_chooses_the_same_pictures(bundle: Bundle, tmp_path: Path) -> None:
    first, again, other = (
        write_manifest(tmp_path / f"{number}.toml", bundle, SPEC, count=16, seed=seed).pictures
        for number, seed in enumerate((0, 0, 1))
    )
    assert first == again != other


def test_the_extremes_are_among_them() -> None:
    """Plain random drawing misses the one dark part of 60 two times out of three; coverage never does."""

    class Part:
        path, has_mask, positive = None, True, False

        def __init__(self, number: int) -> None:
            self.name = self.part = f"p{number:02}"
            self.gain = 0.15 if number == 17 else 1.7 if number == 41 else 1.0

        def read(self) -> np.ndarray:
            noise = np.random.default_rng(int(self.name[1:])).normal(100, 12, (128, 64))
            return np.clip(noise * self.gain, 0, 255).astype(np.uint8)

        def read_mask(self) -> None:
            return None

    parts = [Part(number) for number in range(60)]
    for seed in range(3):
        chosen, _ = choose(parts, 16, seed, (128, 64), 1)
        assert {"p17", "p41"} <= {sample.name for sample in chosen}
        assert len(chosen) == 16


def test_too_few_pictures_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=f"15 calibration pictures, wanted at least {FEWEST}"):
        write_manifest(tmp_path / "m.toml", bundle, SPEC, count=15)
    with pytest.raises(CalibrationError, match=r"usable training pictures, wanted 500"):
        write_manifest(tmp_path / "m.toml", bundle, SPEC, count=500)
    path = tmp_path / "cut.toml"
    write_manifest(path, bundle, SPEC, count=16)
    path.write_text(path.read_text().rpartition("[[pictures]]")[0])
    with pytest.raises(CalibrationError, match="names 15 pictures"):
        read_manifest(path)
    head, *pictures = path.read_text().split("[[pictures]]")
    path.write_text("[[pictures]]".join([head, *[pictures[0]] * 16]))
    with pytest.raises(CalibrationError, match="names 1 pictures, some of them more than once, wanted at least 16"):
        read_manifest(path)
    assert not (tmp_path / "m.toml").exists()


def test_a_bundle_without_a_split_needs_the_user_s_word(tmp_path: Path) -> None:
    bundle = made_bundle(tmp_path, split=False)
    with pytest.raises(CalibrationError, match="--all-training"):
        write_manifest(tmp_path / "m.toml", bundle, SPEC, count=16)
    manifest = write_manifest(tmp_path / "m.toml", bundle, SPEC, count=16, all_training=True)
    assert "as told" in manifest.chosen.split


def test_held_out_pictures_and_another_network_s_size_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    manifest = write_manifest(path, bundle, SPEC, count=16)
    split = bundle.split()
    assert split is not None
    name = manifest.pictures[3].name
    moved = {**split, "train": [one for one in split["train"] if one != name], "test": [*split["test"], name]}
    content = bundle.model_path.read_bytes()
    other = write_bundle(tmp_path / "other.bundle", onnx_bytes=content, meta=bundle.meta, split=moved)
    with pytest.raises(CalibrationError, match=f"{name} is held out by the split"):
        read_manifest(path, other)
    path.write_text(path.read_text().replace("size_hw = [128, 64]", "size_hw = [128, 72]"))
    with pytest.raises(CalibrationError, match="made for 128x72x1 pictures"):
        read_manifest(path, bundle)


def test_changed_and_missing_pictures_are_named(bundle: Bundle, tmp_path: Path) -> None:
    spec, disk = on_disk(tmp_path, bundle)
    path = tmp_path / "m.toml"
    manifest = write_manifest(path, disk, spec, count=16)
    picture = next(one for one in manifest.pictures if not one.defective)
    file = next((tmp_path / "parts").rglob(f"{Path(picture.name).name}.png"))
    content = file.read_bytes()
    cv2.imwrite(str(file), 255 - cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
    with pytest.raises(CalibrationError, match=f"{file.name} is not the picture that was chosen"):
        read_manifest(path, disk)
    file.unlink()
    with pytest.raises(CalibrationError, match=f"{picture.name} is not in"):
        read_manifest(path, disk)
    file.write_bytes(content)
    assert len(read_manifest(path, disk).samples) == 16


def test_a_relative_path_holds_from_any_folder(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, disk = on_disk(tmp_path, bundle)
    monkeypatch.chdir(tmp_path)
    write_manifest(Path("calibration/m.toml"), disk, "folder:parts", count=16)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    read = read_manifest(tmp_path / "calibration" / "m.toml", disk)
    assert read.manifest.data == "folder:../parts"
    assert len(read.samples) == 16


def test_a_broken_manifest_is_told_in_the_user_s_words(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("format = 1\n")
    with pytest.raises(ConfigError, match=r"m\.toml: .*data"):
        read_manifest(path)
    path.write_text(json.dumps({"format": 1}))
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_manifest(path)
