"""Which pictures are looked at in other light."""

from __future__ import annotations

from pathlib import Path

import pytest

from segdec_edge.data.samples import FileSample
from segdec_edge.deploy.lighting import some_of_both


@pytest.mark.parametrize(
    ("defective", "good", "most", "taken"),
    [(100, 200, 60, (30, 30)), (100, 10, 60, (50, 10)), (5, 200, 60, (5, 55)), (2, 3, 60, (2, 3)), (0, 4, 2, (0, 2))],
)
def test_some_of_both_kinds_are_looked_at(defective: int, good: int, most: int, taken: tuple[int, int]) -> None:
    """With defective ones alone there would be no average precision."""
    samples = [FileSample(f"{i}", f"{i}", i >= good, Path(f"{i}.png")) for i in range(defective + good)]
    chosen = some_of_both(samples, most)
    assert (sum(one.positive for one in chosen), sum(not one.positive for one in chosen)) == taken
    assert len({one.name for one in chosen}) == len(chosen) <= most
