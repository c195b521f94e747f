"""Which pictures show one object? By the order they were taken in, and by likeness. Knows no file and no label.

Correlating thumbnails alone leaves many shots of one object apart: they were cropped by hand, and lit differently.
Where file names tell exposure and frame number, those say it better: an object is taken once with each exposure, within
a few hundred frames. Too large a group costs a little balance; an object in two groups leaks into the test.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAMES = 600
"""Most frames between two shots of one object. MagneticTile: neighbours are 10 to 60 apart, the farthest seen 557."""
LIKENESS = 0.97
"""Correlation from which two thumbnails show one object. MagneticTile by eye: all pairs above 0.98, most above 0.97."""
_SHAPE_LIMIT = 0.15  # of the logarithm of height or width: 16 %, more than two crops of one object at one scale differ


@dataclass(frozen=True)
class Shot:
    """What is known of one picture; exposure and frame are None where its name does not tell, thumbnail (n,) float64
    where it could not be read."""

    name: str
    exposure: int | None
    frame: int | None
    size_hw: tuple[int, int]
    thumbnail: NDArray[np.float64] | None


def thumbnail_of(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """A small picture as a vector of mean 0 and length 1, so that dot products are correlations; 0 where it is flat."""
    vector = (grey - grey.mean()).ravel()
    return np.asarray(vector / max(float(np.linalg.norm(vector)), np.finfo(np.float64).tiny), np.float64)


def group_twins(shots: Sequence[Shot]) -> list[list[int]]:
    """Indices of shots by object, each list in the order of names, lists in the order of their first name.

    The same shots give the same groups in whatever order they come.
    """
    order = sorted(range(len(shots)), key=lambda index: shots[index].name)
    ordered = [shots[index] for index in order]
    union = _Union(len(ordered))
    for group in (*exposure_runs(ordered), *_alike(ordered)):
        for index in group[1:]:
            union.join(group[0], index)
    return [[order[index] for index in group] for group in union.groups()]


class _Union:
    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, first: int, second: int) -> None:
        low, high = sorted((self.root(first), self.root(second)))
        self._parent[high] = low

    def groups(self) -> list[list[int]]:
        found: dict[int, list[int]] = {}
        for index in range(len(self._parent)):
            found.setdefault(self.root(index), []).append(index)
        return list(found.values())


def exposure_runs(shots: Sequence[Shot]) -> list[list[int]]:
    """Indices of the shots of one object each, told by frame and exposure alone; shots without them are in none.

    In the order of frames each joins the most similar object that was taken shortly before, and not yet so exposed.
    """
    runs: list[list[int]] = []
    known = [index for index, shot in enumerate(shots) if shot.frame is not None]
    for index in sorted(known, key=lambda index: (shots[index].frame, shots[index].exposure, index)):
        open_runs = [run for run in runs[-8:] if _may_join(shots, run, index)]
        if open_runs:
            min(open_runs, key=lambda run: _unlikeness(shots[run[-1]], shots[index])).append(index)
        else:
            runs.append([index])
    return runs


def _may_join(shots: Sequence[Shot], run: list[int], index: int) -> bool:
    shot, last = shots[index], shots[run[-1]]
    if shot.frame is None or last.frame is None or shot.frame - last.frame > FRAMES:
        return False
    return shot.exposure not in {shots[other].exposure for other in run}


def _unlikeness(first: Shot, second: Shot) -> float:
    shape = float(np.abs(np.log(np.divide(first.size_hw, second.size_hw))).max())
    if first.thumbnail is None or second.thumbnail is None:
        return shape
    return shape + (1 - float(first.thumbnail @ second.thumbnail)) / 2


def _alike(shots: Sequence[Shot]) -> Iterable[list[int]]:
    known = {index: shot.thumbnail for index, shot in enumerate(shots) if shot.thumbnail is not None}
    if not known:
        return []
    seen, vectors = list(known), np.stack(list(known.values()))
    logs = np.log(np.array([shots[index].size_hw for index in seen], np.float64))
    shapes_fit = (np.abs(logs[:, None] - logs[None]) <= _SHAPE_LIMIT).all(axis=2)
    first, second = np.nonzero(np.triu((vectors @ vectors.T >= LIKENESS) & shapes_fit, 1))
    return [[seen[a], seen[b]] for a, b in zip(first.tolist(), second.tolist(), strict=True)]
