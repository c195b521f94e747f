"""What the peers need on disk: pictures as .npy, the plain network's ONNX file, the trained or exported rivals.

Made once in a work folder; a training is reused as long as its pictures, their masks, size and epochs are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.child import PeerError, environment
from benchmarks.peers.install import HERE, python_of
from segdec_edge.bundle import Bundle
from segdec_edge.data.samples import Sample
from segdec_edge.deploy.gate import dataset_of, exam_for, facts_of
from segdec_edge.errors import ConfigError
from segdec_edge.evaluation.run import choose_samples
from segdec_edge.files import sha256_of, write_atomic

_NOTE = "made_of.json"


@dataclass(frozen=True)
class Material:
    """files: the timed subset's pictures as .npy, labels: which are defective; train: the pictures trained on."""

    work: Path
    size_hw: tuple[int, int]
    channels: int
    files: tuple[Path, ...]
    labels: tuple[bool, ...]
    train_files: tuple[Path, ...]
    train_labels: tuple[bool, ...]

    @property
    def size(self) -> str:
        return f"{self.size_hw[0]}x{self.size_hw[1]}"


def material(bundle: Bundle, data: str | None, subset: str, work: Path, limit: int | None = None) -> Material:
    """limit: so many of each kind alone. Raises DataError, BundleError, PictureError."""
    tested = first_of_each(exam_for(bundle, data, subset).samples, limit)
    trained = first_of_each(choose_samples(dataset_of(bundle, data), facts_of(bundle), "train"), limit)
    spec = bundle.spec
    return Material(
        work,
        spec.size_hw,
        spec.channels,
        _saved(tested, work / "tested"),
        tuple(one.positive for one in tested),
        _saved(trained, work / "trained"),
        tuple(one.positive for one in trained),
    )


def first_of_each(samples: Sequence[Sample], limit: int | None) -> Sequence[Sample]:
    """In their order; None: all."""
    if limit is None:
        return samples
    left = {True: limit, False: limit}
    kept = []
    for sample in samples:
        if left[sample.positive] > 0:
            left[sample.positive] -= 1
            kept.append(sample)
    return kept


def _saved(samples: Sequence[Sample], folder: Path) -> tuple[Path, ...]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = []
    for number, sample in enumerate(samples):
        files.append(folder / f"{number:05d}.npy")
        np.save(files[-1], sample.read())
    return tuple(files)


def plain_export(checkpoint: Path, found: Material) -> Path:
    out = found.work / "plain.onnx"
    _run(found.work, sys.executable, "plain_export", str(checkpoint), found.size, str(out))
    return out


def anomalib_export(found: Material) -> None:
    folder = found.work / "anomalib"
    if _is_new(folder, {"size": found.size}):
        folder.mkdir(exist_ok=True)
        _run(found.work, str(python_of("anomalib_efficientad")), "anomalib_efficientad", found.size, str(folder))
        _noted(folder, {"size": found.size})


def ultralytics_training(
    found: Material, bundle: Bundle, data: str | None, epochs: int, limit: int | None = None
) -> None:
    """Masks as the data set has them; a defective picture without one is left out, for it would be learnt as good."""
    folder = found.work / "ultralytics"
    trained = first_of_each(choose_samples(dataset_of(bundle, data), facts_of(bundle), "train"), limit)
    masked = [one for one in trained if one.has_mask]
    made_of = {"size": found.size, "epochs": epochs, "pictures": len(found.train_files)}
    named = {**made_of, "train_sha256": digest_of(masked)}
    if not _is_new(folder, named):
        return
    if not _is_new(folder, made_of) and holds_these(folder / "train", masked):
        _noted(folder, named)  # its note is from before the pictures' hash was in it
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "train").mkdir(parents=True)
    (folder / "size.txt").write_text(found.size, encoding="ascii")
    for number, sample in enumerate(masked):
        cv2.imwrite(str(folder / "train" / f"{number:05d}.png"), sample.read())
        mask = sample.read_mask()
        if mask is not None:
            np.save(folder / "train" / f"{number:05d}.npy", mask.astype(np.uint8))
    _run(found.work, str(python_of("ultralytics_segment")), "ultralytics_segment", str(folder), str(epochs))
    _noted(folder, named)


def digest_of(samples: Sequence[Sample]) -> str:
    """SHA-256 over names, pixels and masks, in their order."""
    digest = hashlib.sha256()
    for sample in samples:
        mask = sample.read_mask()
        for part in (sample.name, _told(sample.read()), "good" if mask is None else _told(mask)):
            digest.update(f"{part}\0".encode())
    return digest.hexdigest()


def _told(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape} {hashlib.sha256(np.ascontiguousarray(pixels, np.uint8)).hexdigest()}"


def holds_these(folder: Path, samples: Sequence[Sample]) -> bool:
    """Whether a folder trained on holds the very pixels and masks that would be written there now, and nothing else."""
    wanted = {}
    for number, sample in enumerate(samples):
        wanted[f"{number:05d}.png"] = sample.read
        if sample.read_mask() is not None:
            wanted[f"{number:05d}.npy"] = sample.read_mask
    if {path.name for path in folder.glob("*")} != set(wanted):
        return False
    return all(np.array_equal(_stored(folder / name), read()) for name, read in wanted.items())


def _stored(path: Path) -> Any:
    return np.load(path) if path.suffix == ".npy" else cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def require_its_checkpoint(bundle: Bundle, checkpoint: Path) -> None:
    """The plain peer runs the checkpoint at the bundle's threshold. Raises ConfigError where they do not belong
    together."""
    if not checkpoint.is_file():
        raise ConfigError(f"{checkpoint}: no such file, wanted the checkpoint that {bundle.path} was made from.")
    named, got = bundle.meta.training.get("checkpoint_sha256"), sha256_of(checkpoint)
    if named != got:
        told = f"one with the hash {str(named)[:12]}" if named else "one that it does not name"
        raise ConfigError(
            f"{checkpoint}: has the hash {got[:12]}, but {bundle.path} was made from {told}. Give its own"
            " checkpoint, or first a bundle of this one."
        )


def _run(work: Path, python: str, script: str, *arguments: str) -> None:
    """Raises PeerError."""
    if not Path(python).exists():
        raise PeerError(f"not installed. Install it: python benchmarks/peers/install.py {script}")
    with (work / f"{script}.log").open("w") as said:
        done = subprocess.run(
            [python, HERE / f"{script}.py", *arguments], stdout=said, stderr=said, cwd=work,
            env=environment(os.environ, work),
        )  # fmt: skip
    if done.returncode:
        lines = (work / f"{script}.log").read_text(errors="replace").strip().splitlines()
        raise PeerError(f"cannot be prepared: {lines[-1] if lines else 'it said nothing'}")


def _is_new(folder: Path, made_of: dict[str, object]) -> bool:
    note = folder / _NOTE
    return not note.exists() or json.loads(note.read_text(encoding="utf-8")) != made_of


def _noted(folder: Path, made_of: dict[str, object]) -> None:
    write_atomic(folder / _NOTE, json.dumps(made_of))
