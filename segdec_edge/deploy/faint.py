"""Faint defects for a rebuilt network to learn from: drawn ones laid weakly on good training pictures.

What a smaller network loses first lies near the threshold, and training pictures have nothing there: the original has
learnt all of them. What these are, the original says; nobody has to mark them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

import numpy as np

from segdec_edge.data.paste import Shape, best_corner, paste, shape_of_mask
from segdec_edge.data.samples import Sample
from segdec_edge.data.targets import MIRRORS, TargetRule
from segdec_edge.deploy.rebuild import Material
from segdec_edge.errors import MaskError
from segdec_edge.types import Pixels

EACH = 4
"""Faint pictures of each drawn defect."""
_STRENGTHS = (0.15, 1.0)
_PLACES_TRIED = 8


def faint_defects(
    material: Material, samples: Sequence[Sample], held_back: Collection[str] = (), seed: int = 0
) -> Material | None:
    """Defects of the material on good pictures of it, each of EACH at a strength of its own; None where none is drawn.

    A picture has its defect's name. Defects of what is held back lie on good pictures that are, the others on others.
    samples: of the material, for their masks; one that cannot be read is left out.
    """
    rng = np.random.default_rng(seed)
    shapes = _shapes(material, samples)
    found: list[Pixels] = []
    names: list[str] = []
    for index, name in enumerate(material.names):
        shape = shapes.get(name)
        hosts = [
            other
            for other, host in enumerate(material.names)
            if not material.defective[other] and (host in held_back) == (name in held_back)
        ]
        if shape is None or not hosts:
            continue
        for _ in range(EACH):
            found.append(_faint(material.pixels[rng.choice(hosts)], material.pixels[index], shape, rng))
            names.append(name)
    return Material(np.stack(found), np.ones(len(found), np.bool_), tuple(names)) if found else None


def _shapes(material: Material, samples: Sequence[Sample]) -> dict[str, Shape]:
    (height, width, channels), known = material.pixels.shape[1:], set(material.names)
    rule = TargetRule((height, width), channels, boxes=False, dilate=1, weighted=False, p=1, w_pos=1, per="region")
    found = {}
    for sample in samples:
        if sample.positive and sample.has_mask and sample.name in known:
            with suppress(MaskError):
                shape = shape_of_mask(sample.read_mask(), rule)
                if shape is not None:
                    found[sample.name] = shape
    return found


def _faint(host: Pixels, donor: Pixels, shape: Shape, rng: np.random.Generator) -> Pixels:
    """The donor's defect, mirrored by chance, where the host looks most like its surroundings."""
    turn = int(rng.integers(len(MIRRORS)))
    rows, columns = MIRRORS[turn]
    turned, over = shape.turned(turn), np.ascontiguousarray(donor[::rows, ::columns])
    tops, lefts = turned.corners()
    corners = [(int(rng.choice(tops)), int(rng.choice(lefts))) for _ in range(_PLACES_TRIED)]
    strength = float(rng.uniform(*_STRENGTHS))
    return paste(host, over, turned, best_corner(host, over, turned, corners), strength)[0]
