"""Whatever can be scored, opened the same way: a checkpoint file or a bundle folder, and how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdec_edge.bundle import read_bundle
from segdec_edge.errors import BundleError, CheckpointError
from segdec_edge.runtime import open_backend
from segdec_edge.types import Backend


@dataclass(frozen=True)
class Artefact:
    """backend warm and ready; facts: how its network was trained, empty where the file does not say;
    threshold_source: in words, empty where the threshold was never calibrated."""

    path: Path
    backend: Backend
    facts: Mapping[str, Any]
    threshold_source: str

    @property
    def data(self) -> str | None:
        """The spec of the data set it was trained on."""
        settings = self.facts.get("settings", {})
        data = settings.get("data")
        return None if data is None else str(data)


def open_artefact(path: Path, backend: str = "auto", size_hw: tuple[int, int] | None = None) -> Artefact:
    """Open a checkpoint (torch) or a bundle (any backend of the line). size_hw: only for checkpoints that do not say.

    Raises CheckpointError, BundleError, BackendError.
    """
    if path.is_dir():
        bundle = read_bundle(path)
        if size_hw is not None:
            height, width = bundle.spec.size_hw
            raise BundleError(
                f"{path}: a bundle has its input size, {height}x{width}, and got --size {size_hw[0]}x{size_hw[1]}."
                " Leave --size out."
            )
        split = bundle.split()
        facts = {**bundle.meta.training, **({"split": split} if split else {})}
        return Artefact(path, open_backend(bundle, backend), facts, bundle.meta.threshold.source)
    return _open_checkpoint(path, backend, size_hw)


def _open_checkpoint(path: Path, backend: str, size_hw: tuple[int, int] | None) -> Artefact:
    if backend not in ("auto", "torch"):
        raise CheckpointError(f"{path}: a checkpoint runs on torch, not on {backend}. Export it first: segdec export")
    # A bundle alone must be scored without torch, as on a station.
    from segdec_edge.model.backend import open_checkpoint

    opened = open_checkpoint(path, size_hw)
    return Artefact(path, opened, opened.facts, opened.threshold_source)
