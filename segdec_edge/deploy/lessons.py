"""What a rebuilt network learns from: training pictures with what the teacher says of each, kept for a later run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segdec_edge.deploy.distil import Recipe, StepProgress, Targets, aligned, distilled, targets_of
from segdec_edge.deploy.graph_write import to_onnx
from segdec_edge.deploy.network import Network
from segdec_edge.deploy.rebuild import Material
from segdec_edge.files import make_folder, write_atomic
from segdec_edge.types import Pixels


@dataclass(frozen=True)
class Lesson:
    """Pictures and what the teacher says of them."""

    material: Material
    targets: Targets

    def without(self, names: Collection[str]) -> Lesson:
        kept = [index for index, name in enumerate(self.material.names) if name not in names]
        targets = Targets(self.targets.decision[kept], self.targets.segmentation[kept])
        return Lesson(self.material.without(names), targets)


@dataclass(frozen=True)
class Lessons:
    """plain: the training pictures; more: what is only distilled on, their mirror images and faint defects."""

    plain: Lesson
    more: tuple[Lesson, ...] = ()

    def without(self, names: Collection[str]) -> Lessons:
        """The lessons on pictures of other names."""
        return Lessons(self.plain.without(names), tuple(one.without(names) for one in self.more))

    def tuned(self, network: Network, recipe: Recipe, progress: StepProgress | None = None) -> Network:
        """The network after distillation, if there are steps; its scores then aligned with the teacher's."""
        if recipe.steps:
            network = _distilled((self.plain, *self.more), network, recipe, progress)
        material = self.plain.material
        return aligned(network, material.pixels, material.defective, self.plain.targets)


def _distilled(lessons: Sequence[Lesson], network: Network, recipe: Recipe, progress: StepProgress | None) -> Network:
    targets = Targets(
        np.concatenate([one.targets.decision for one in lessons]),
        np.concatenate([one.targets.segmentation for one in lessons]),
    )
    pixels = np.concatenate([one.material.pixels for one in lessons])
    defective = np.concatenate([one.material.defective for one in lessons])
    return distilled(network, pixels, defective, targets, recipe, progress)


def lessons_of(
    teacher: Network, material: Material, recipe: Recipe, faint: Material | None = None, work: Path | None = None
) -> Lessons:
    """What the teacher says of the material and, where there are steps, of its mirror images and of faint defects.

    Kept in the folder `work`, where there is one, for a later run.
    """
    plain = Lesson(material, _known(teacher, material.pixels, work))
    if not recipe.steps:
        return Lessons(plain)
    more = [material.mirrored(), *([faint] if faint is not None else [])]
    return Lessons(plain, tuple(Lesson(one, _known(teacher, one.pixels, work)) for one in more))


def _known(teacher: Network, pixels: Pixels, work: Path | None) -> Targets:
    if work is None:
        return targets_of(teacher, pixels)
    digest = hashlib.sha256(pixels.tobytes() + to_onnx(teacher, (pixels.shape[1], pixels.shape[2]))).hexdigest()
    kept = work / f"targets-{digest[:16]}.npz"
    if kept.exists():
        with np.load(kept) as found:
            return Targets(found["decision"], found["segmentation"])
    targets, content = targets_of(teacher, pixels), io.BytesIO()
    np.savez(content, decision=targets.decision, segmentation=targets.segmentation)
    make_folder(kept.parent)
    write_atomic(kept, content.getvalue())
    return targets
