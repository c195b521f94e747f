"""Pasted defects in training: which pictures take part, and that every process and every resumption draws the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.data.samples import with_masks
from segdec_edge.data.spec import open_dataset
from segdec_edge.data.stream import Examples, Memory
from segdec_edge.data.targets import Example
from segdec_edge.errors import ConfigError
from segdec_edge.training.augment import Augment
from segdec_edge.training.feeding import target_rule
from segdec_edge.training.run import train
from tests.training.made_parts import Interrupted, Quiet, equal, settings, weights, write_parts


class Counting(Examples):
    """Notes which pictures are asked for."""

    asked: list[int]

    def __getitem__(self, index: int) -> Example:
        self.asked.append(index)
        return super().__getitem__(index)


def opened(
    parts: Path, limit: int = 1 << 30, workers: int = 0, masks: int | None = None, **changes: object
) -> Counting:
    chosen = settings(parts, **changes)
    examples = Counting(
        with_masks(open_dataset(chosen.data).samples, masks, 1), target_rule(chosen), Memory(limit), workers
    )
    examples.asked = []
    return examples


def all_of(examples: Examples, augment: Augment, epoch: int) -> Iterator[Example]:
    return (augment.example(index, epoch) for index in range(len(examples)))


def same(first: Example, second: Example) -> bool:
    arrays = ((first.pixels, second.pixels), (first.mask, second.mask), (first.weights, second.weights))
    return all(np.array_equal(one, two) for one, two in arrays) and first.positive == second.positive


@pytest.mark.parametrize("flips", [False, True])
def test_the_same_epoch_gives_the_same_pictures_whatever_was_drawn_before(parts: Path, flips: bool) -> None:
    chosen = settings(parts, paste=0.7, flips=flips)
    with opened(parts, flips=flips) as kept, opened(parts, 0, 2, flips=flips) as streamed:
        first = list(all_of(kept, Augment(kept, chosen), 3))
        other = Augment(streamed, chosen)
        for index in reversed(range(0, len(streamed), 2)):  # as a second process, or after a resumption
            assert same(other.example(index, 3), first[index])
        changed = [same(one, first[index]) for index, one in enumerate(all_of(kept, Augment(kept, chosen), 4))]
    assert sum(changed) < len(changed) / 2


def test_defective_pictures_become_good_ones_with_their_defect(parts: Path) -> None:
    with opened(parts) as examples:
        augment = Augment(examples, settings(parts, paste=1.0))
        plain = list(examples)
        assert len({augment.needs(index, 0)[0] for index in np.flatnonzero(examples.labels).tolist()}) > 3
        for index, example in enumerate(all_of(examples, augment, 0)):
            host, donor = (plain[one] for one in augment.needs(index, 0))
            assert not host.positive
            assert example.positive == examples.labels[index] == donor.positive
            untouched = example.pixels == host.pixels
            assert untouched.mean() > 0.3
            assert not untouched.all() or host is donor
            dark = example.pixels[:, :, 0] < 90  # the made parts' defects are at 60, their surface at 150
            if not example.positive:
                assert not dark.any()
                assert (example.mask == 0).all()
                continue
            assert dark.sum() == pytest.approx((donor.pixels[:, :, 0] < 90).sum(), rel=0.1)
            rows, columns = np.nonzero(dark)
            assert (example.mask[rows // 8, columns // 8] > 0).all()
            assert example.mask.sum() == pytest.approx(donor.mask.sum(), rel=0.2)


def test_as_many_are_pasted_as_asked_for(parts: Path) -> None:
    with opened(parts) as examples:
        plain = list(examples)
        for share, low, high in ((0.0, 0.0, 0.0), (0.5, 0.4, 0.6)):
            augment = Augment(examples, settings(parts, paste=share))
            for positive in (True, False):
                pasted = [
                    not same(augment.example(index, epoch), plain[index])
                    for epoch in range(20)
                    for index in np.flatnonzero(examples.labels == positive).tolist()
                ]
                assert low <= np.mean(pasted) <= high


def test_exactly_what_was_announced_is_read(parts: Path) -> None:
    with opened(parts) as examples:
        augment = Augment(examples, settings(parts, paste=0.6))
        needed = [one for index in range(len(examples)) for one in augment.needs(index, 1)]
        for _ in all_of(examples, augment, 1):
            pass
        assert examples.asked == needed
        assert len(needed) > len(examples)


def test_a_defect_that_nobody_drew_is_not_pasted(parts: Path) -> None:
    with opened(parts, masks=2) as examples:
        augment = Augment(examples, settings(parts, paste=1.0))
        drawn = set(np.flatnonzero(examples.masked).tolist())
        assert len(drawn) == 2
        for index in np.flatnonzero(examples.labels).tolist():
            assert augment.needs(index, 0)[-1] == index
            assert (len(augment.needs(index, 0)) == 2) == (index in drawn)


def test_only_training_pictures_are_looked_at(tmp_path: Path) -> None:
    """What is held out may even be broken: nothing reads it."""
    parts = write_parts(tmp_path / "parts", good=10, defective=8)
    chosen = settings(parts, paste=1.0, epochs=2, validation=0.0, test=0.4)
    before = train(chosen, tmp_path / "a", Quiet())
    for name in json.loads((tmp_path / "a" / "split.json").read_text())["test"]:
        (parts / "images" / f"{name}.png").write_bytes(b"broken")
    after = train(chosen, tmp_path / "b", Quiet())
    assert equal(weights(before.checkpoint), weights(after.checkpoint))


def test_pasting_resumes_and_streams_bit_for_bit(parts: Path, tmp_path: Path) -> None:
    chosen = settings(parts, paste=0.5, flips=True, epochs=2)
    whole = train(chosen, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "stopped", Interrupted())
    resumed = train(
        settings(parts, paste=0.5, flips=True, epochs=2, cache_gib=0.0, workers=2),
        tmp_path / "stopped",
        Quiet(),
        resume=True,
    )
    assert equal(weights(whole.checkpoint), weights(resumed.checkpoint))


@pytest.mark.parametrize("changes", [{"paste": 1.5}, {"paste": -0.1}, {"paste": 0.5, "masks": 0}])
def test_shares_that_make_no_sense_are_refused(parts: Path, changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="paste"):
        settings(parts, **changes)


def test_defects_without_masks_cannot_be_pasted(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", good=8, defective=6)
    (parts / "images").rename(parts / "good")
    (parts / "defect").mkdir()
    for mask in (parts / "masks").iterdir():
        (parts / "good" / mask.name).rename(parts / "defect" / mask.name)
        mask.unlink()
    (parts / "masks").rmdir()
    with pytest.raises(ConfigError, match="no defective training picture has one"):
        train(settings(parts, paste=0.5), tmp_path / "run", Quiet())
    assert not (tmp_path / "run" / "split.json").exists()
