"""Pictures other than they were taken: pasted defects and mirrored sides. Knows no network; the published method uses
none of this."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from segdec_edge.config.train import TrainSettings
from segdec_edge.data.paste import best_corner, paste
from segdec_edge.data.stream import Feed, labels_of, masked_of, shape_of
from segdec_edge.data.targets import MIRRORS, Example, targets_of, with_targets
from segdec_edge.training.feeding import target_rule

_PLACES_TRIED = 8


@dataclass(frozen=True)
class _Piece:
    """Of the picture `donor` the piece that has the outline of the defect of `outline`, laid on the picture `host`."""

    host: int
    donor: int
    outline: int


class Augment:
    """What is trained on where an example was drawn: the same for the same settings, epoch and index, in any process.

    With `paste` a defective picture gives its defect to a good one, and a good picture takes a piece of another good
    one; use counts know nothing of it. Only a defect that somebody drew is pasted. With `flips` the result is mirrored
    by chance, and so is the piece before.
    """

    def __init__(self, examples: Feed, settings: TrainSettings) -> None:
        self._examples, self._settings, self._rule = examples, settings, target_rule(settings)
        self._positive = labels_of(examples)
        self._good, self._masked = np.flatnonzero(~self._positive), masked_of(examples)
        self._has_outline = np.isin(np.arange(len(examples)), self._masked)

    def needs(self, index: int, epoch: int) -> tuple[int, ...]:
        """Which pictures `example` reads, in order."""
        piece, _ = self._drawn(index, epoch)
        return (index,) if piece is None else (piece.host, piece.donor)

    def example(self, index: int, epoch: int) -> Example:
        """Raises PictureError or MaskError where a picture or mask has to be read and cannot."""
        piece, rng = self._drawn(index, epoch)
        example = self._examples[index] if piece is None else self._pasted(piece, rng)
        if not self._settings.flips:
            return example
        return flipped(example, np.random.default_rng([self._settings.seed, epoch, 1, index]))

    def _drawn(self, index: int, epoch: int) -> tuple[_Piece | None, np.random.Generator]:
        rng = np.random.default_rng([self._settings.seed, epoch, 2, index])
        if rng.random() >= self._settings.paste or not len(self._masked):
            return None, rng
        good = int(rng.choice(self._good))
        if not self._positive[index]:
            return _Piece(index, good, int(rng.choice(self._masked))), rng
        return (_Piece(good, index, index) if self._has_outline[index] else None), rng

    def _pasted(self, piece: _Piece, rng: np.random.Generator) -> Example:
        host, donor = self._examples[piece.host], self._examples[piece.donor]
        shape = shape_of(self._examples, piece.outline)
        if shape is None:
            return donor if donor.positive else host
        turn = int(rng.integers(len(MIRRORS))) if self._settings.flips else 0
        rows, columns = MIRRORS[turn]
        shape, over = shape.turned(turn), np.ascontiguousarray(donor.pixels[::rows, ::columns])
        tops, lefts = shape.corners()
        corners = [shape.corner_yx] + [
            (int(rng.choice(tops)), int(rng.choice(lefts))) for _ in range(_PLACES_TRIED - 1)
        ]
        pixels, mask = paste(host.pixels, over, shape, best_corner(host.pixels, over, shape, corners))
        if not donor.positive:
            return replace(host, pixels=pixels)
        return with_targets(replace(donor, pixels=pixels), targets_of(mask, self._rule))


def flipped(example: Example, rng: np.random.Generator) -> Example:
    """The example as it is, mirrored left to right, upside down or both, each with one chance in four.

    An example with a defect must have been made with flips: its targets cannot be mirrored after their reduction.
    """
    turn = int(rng.integers(len(MIRRORS)))
    rows, columns = MIRRORS[turn]
    pixels = np.ascontiguousarray(example.pixels[::rows, ::columns])
    mask, weights = example.mirrored[turn] if example.mirrored else (example.mask, example.weights)
    return replace(example, pixels=pixels, mask=mask, weights=weights)
