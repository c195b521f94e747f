"""What the peers are given: a training is reused for its own pictures alone, a checkpoint for its own bundle alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from benchmarks.peers import prepare
from benchmarks.peers.install import ROOT
from benchmarks.peers.prepare import Material, digest_of, require_its_checkpoint, ultralytics_training
from segdec_edge.bundle import (
    Bundle,
    InputFacts,
    Meta,
    OutputFacts,
    Threshold,
    model_facts,
    utc_now,
    write_bundle,
)
from segdec_edge.data.spec import open_dataset
from segdec_edge.errors import ConfigError
from segdec_edge.files import sha256_of

DATA = "synthetic:seed={seed},n=12,size=64x64"


def bundle_of(folder: Path, seed: int, train: int = 8, checkpoint: str = "") -> Bundle:
    spec = DATA.format(seed=seed)
    names = [sample.name for sample in open_dataset(spec).samples]
    meta = Meta(
        segdec_edge="0.1.0",
        created=utc_now(),
        input=InputFacts(size_hw=(64, 64), channels=1, colour="grey"),
        outputs=OutputFacts(heatmap_hw=(8, 8)),
        threshold=Threshold(value=0.4, source="made up"),
        model=model_facts(b"a graph", opset=17, simplified=True),
        training={"data": spec, **({"checkpoint_sha256": checkpoint} if checkpoint else {})},
    )
    split = {"train": names[:train], "validation": [], "test": names[train:], "how": "made up"}
    return write_bundle(folder / f"{seed}.bundle", onnx_bytes=b"a graph", meta=meta, split=split)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each training that would have run, instead of it."""
    made: list[str] = []
    monkeypatch.setattr(prepare, "_run", lambda work, python, script, *words: made.append(script))
    return made


def train(work: Path, seed: int, pictures: int = 8) -> None:
    files = tuple(Path(f"{number}.npy") for number in range(pictures))
    given = Material(work, (64, 64), 1, (), (), files, tuple(False for _ in files))
    ultralytics_training(given, bundle_of(work, seed), DATA.format(seed=seed), epochs=3)


def test_a_training_is_reused_for_its_own_pictures_alone(trainings: list[str], tmp_path: Path) -> None:
    train(tmp_path, seed=1)
    train(tmp_path, seed=1)
    assert len(trainings) == 1
    train(tmp_path, seed=2)  # as many pictures of the same size
    assert len(trainings) == 2


def test_an_old_note_holds_where_the_stored_pictures_are_the_same(trainings: list[str], tmp_path: Path) -> None:
    train(tmp_path, seed=1)
    note = tmp_path / "ultralytics" / "made_of.json"
    old = {name: value for name, value in json.loads(note.read_text()).items() if name != "train_sha256"}
    note.write_text(json.dumps(old))
    train(tmp_path, seed=1)
    assert len(trainings) == 1 and "train_sha256" in json.loads(note.read_text())
    note.write_text(json.dumps(old))
    train(tmp_path, seed=2)
    assert len(trainings) == 2
    note.write_text(json.dumps(old))
    mask = next((tmp_path / "ultralytics" / "train").glob("*.npy"))
    np.save(mask, 1 - np.load(mask))
    train(tmp_path, seed=2)
    assert len(trainings) == 3


def test_the_digest_sees_names_pixels_and_order() -> None:
    samples = open_dataset(DATA.format(seed=1)).samples
    other = open_dataset(DATA.format(seed=2)).samples
    assert digest_of(samples) == digest_of(samples)
    assert len({digest_of(one) for one in (samples, samples[::-1], samples[:-1], other)}) == 4


def test_a_checkpoint_belongs_to_the_bundle(tmp_path: Path) -> None:
    checkpoint = tmp_path / "net.pt"
    with pytest.raises(ConfigError, match=r"net\.pt: no such file"):
        require_its_checkpoint(bundle_of(tmp_path, 1), checkpoint)
    checkpoint.write_bytes(b"weights")
    require_its_checkpoint(bundle_of(tmp_path, 1, checkpoint=sha256_of(checkpoint)), checkpoint)
    for named, said in (("c" * 64, "with the hash cccccccccccc"), ("", "does not name")):
        with pytest.raises(ConfigError, match=said) as caught:
            require_its_checkpoint(bundle_of(tmp_path, 1, checkpoint=named), checkpoint)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_that_is_not_there_is_named_before_anything_is_prepared(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, 1)
    command = [sys.executable, "-m", "benchmarks.peers.run", "none.pt", str(bundle.path), "-o", "r.json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--work", "work"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("run.py: none.pt: no such file")
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "work").exists()
