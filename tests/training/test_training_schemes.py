"""The earlier two-stage scheme, mixed supervision, mirrored pictures and averaged weights."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segdec_edge.data.samples import with_masks
from segdec_edge.data.spec import open_dataset
from segdec_edge.data.splits import Split
from segdec_edge.data.targets import MIRRORS, TargetRule, make_example
from segdec_edge.errors import ConfigError, DataError
from segdec_edge.model.checkpoint import load_checkpoint
from segdec_edge.training.augment import flipped
from segdec_edge.training.average import TailAverage
from segdec_edge.training.records import EpochRecord
from segdec_edge.training.refusals import refuse_other_split
from segdec_edge.training.run import AVERAGED, CHECKPOINT, SPLIT, train
from tests.training.made_parts import Quiet, equal, settings, weights


class Copying(Quiet):
    """Keeps every epoch's checkpoint."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        super().epoch(record, epochs)
        shutil.copy(self.folder / CHECKPOINT, self.folder / f"{record.epoch}.pt")


def _is_decision(key: str) -> bool:
    return key.startswith(("extractor", "fc"))


def test_the_separate_scheme_trains_one_part_after_the_other(parts: Path, tmp_path: Path) -> None:
    observer = Copying(tmp_path)
    result = train(settings(parts, epochs=2, scheme="separate"), tmp_path, observer)
    assert [record.epoch for record in observer.records] == [1, 2, 3, 4]
    states = [weights(tmp_path / f"{epoch}.pt") for epoch in (1, 2, 3, 4)]
    changed = [{key for key in a if not torch.equal(a[key], b[key])} for a, b in itertools.pairwise(states)]
    decision = {key for key in states[0] if _is_decision(key)}
    assert changed == [states[0].keys() - decision, decision, decision]
    assert [round(one.total - one.segmentation, 9) for one in observer.records[:2]] == [0.0, 0.0]
    assert [one.total for one in observer.records[2:]] == pytest.approx(
        [0.1 * one.decision for one in observer.records[2:]]
    )
    assert load_checkpoint(result.checkpoint).epoch == 4


def test_the_separate_scheme_keeps_no_epoch_from_before_its_decision_part(parts: Path, tmp_path: Path) -> None:
    for seed in range(3):  # the first, without a decision, may be the best of all by chance
        asked = settings(parts, epochs=2, scheme="separate", keep="best", validation=0.4, seed=seed)
        result = train(asked, tmp_path / str(seed), Quiet())
        third, fourth = (record.validation_ap or 0.0 for record in result.history[2:])
        assert load_checkpoint(result.checkpoint).epoch == (4 if fourth > third else 3)


def test_the_separate_scheme_needs_no_gradient_stop_and_no_running_statistics(parts: Path, tmp_path: Path) -> None:
    for name, changes in (("open", {"gradient_stop": False}), ("batch", {"norm": "batch"})):
        folder = tmp_path / name
        folder.mkdir()
        train(settings(parts, epochs=1, scheme="separate", **changes), folder, Copying(folder))
        first, second = weights(folder / "1.pt"), weights(folder / "2.pt")
        assert all(torch.equal(first[key], second[key]) for key in first if not _is_decision(key))


def test_averaged_weights_are_the_mean_of_the_last_epochs_and_leave_the_last_as_it_is(
    parts: Path, tmp_path: Path
) -> None:
    plain = train(settings(parts, epochs=4), tmp_path / "plain", Quiet())
    folder = tmp_path / "run"
    folder.mkdir()
    result = train(settings(parts, epochs=4, average_epochs=3), folder, Copying(folder))
    assert result.checkpoint == folder / AVERAGED
    assert equal(weights(plain.checkpoint), weights(folder / CHECKPOINT))
    states = [weights(folder / f"{epoch}.pt") for epoch in (2, 3, 4)]
    for key, value in weights(result.checkpoint).items():
        torch.testing.assert_close(value, torch.stack([state[key].double() for state in states]).mean(0).float())
    averaged, last = load_checkpoint(result.checkpoint), load_checkpoint(folder / CHECKPOINT)
    assert averaged.threshold is not None
    assert last.threshold == load_checkpoint(plain.checkpoint).threshold
    assert averaged.facts["profile"] != last.facts["profile"]  # of its own scores
    assert {**averaged.facts, "profile": None} == {**last.facts, "profile": None}


def test_averaging_resumes_bit_for_bit(parts: Path, tmp_path: Path) -> None:
    chosen = settings(parts, epochs=4, average_epochs=3)
    whole = train(chosen, tmp_path / "whole", Quiet())
    folder = tmp_path / "stopped"
    folder.mkdir()

    class Stopping(Quiet):
        def epoch(self, record: EpochRecord, epochs: int) -> None:
            if record.epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(chosen, folder, Stopping())
    assert not (folder / AVERAGED).exists()
    resumed = train(chosen, folder, Quiet(), resume=True)
    assert equal(weights(whole.checkpoint), weights(resumed.checkpoint))


def test_a_mean_of_one_is_the_thing_itself() -> None:
    net = torch.nn.Linear(3, 2)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    average = TailAverage()
    average.add(net)
    torch.nn.init.zeros_(net.weight)
    average.load_into(net)
    assert equal(before, dict(net.state_dict()))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"average_epochs": 9}, "at most the 3 epochs there are"),
        ({"average_epochs": 4, "scheme": "separate"}, "at most the 3 epochs that train the decision part"),
        ({"average_epochs": 2, "keep": "best"}, "exclude each other"),
        ({"average_epochs": 2, "norm": "batch"}, "running statistics"),
        ({"scheme": "together"}, "separate"),
        ({"masks": -1}, "masks"),
    ],
)
def test_settings_that_do_not_fit_are_refused(parts: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        settings(parts, **changes)


@dataclass(frozen=True)
class Drawn:
    """A sample in memory."""

    pixels: np.ndarray
    mask: np.ndarray | None
    name: str = "a"
    part: str = "a"
    has_mask: bool = True
    path: Path | None = None

    @property
    def positive(self) -> bool:
        return self.mask is not None

    def read(self) -> np.ndarray:
        return self.pixels

    def read_mask(self) -> np.ndarray | None:
        return self.mask


@pytest.mark.parametrize("defective", [True, False])
def test_mirroring_a_picture_mirrors_what_it_is_trained_against(defective: bool) -> None:
    """By eye nothing would show, but a mask at 1/8 mirrored after its reduction is off by one pixel of the picture."""
    mask = np.zeros((64, 128), np.bool_)
    mask[10:30, 17:60], mask[50:60, 3:9] = True, True
    pixels = np.random.default_rng(0).integers(0, 255, (64, 128)).astype(np.uint8)
    rule = TargetRule((64, 128), 1, boxes=False, dilate=1, weighted=True, p=2, w_pos=3, per="region", flips=True)
    plain = make_example(Drawn(pixels, mask if defective else None), rule)
    seen = set()
    for seed in range(16):
        got = flipped(plain, np.random.default_rng(seed))
        (rows, columns), *more = (
            turn for turn in MIRRORS if np.array_equal(got.pixels[:, :, 0], pixels[:: turn[0], :: turn[1]])
        )
        assert not more
        turned = Drawn(pixels[::rows, ::columns], mask[::rows, ::columns] if defective else None)
        wanted = make_example(turned, replace(rule, flips=False))
        np.testing.assert_allclose(got.mask, wanted.mask, atol=1e-6)
        np.testing.assert_allclose(got.weights, wanted.weights, atol=1e-6)
        seen.add((rows, columns))
    assert len(seen) == 4


def test_fewer_masks_are_a_subset_and_good_parts_keep_theirs(parts: Path) -> None:
    samples = open_dataset(f"folder:{parts}").samples
    kept = [
        {one.name for one in with_masks(samples, count, seed=3) if one.positive and one.has_mask} for count in (0, 2, 5)
    ]
    assert [len(names) for names in kept] == [0, 2, 5]
    assert kept[0] < kept[1] < kept[2]
    without = with_masks(samples, 0, seed=3)
    assert [one.name for one in without] == [one.name for one in samples]
    assert all(one.has_mask and one.read_mask() is None for one in without if not one.positive)
    assert all(one.read_mask() is None and one.read().size for one in without if one.positive)
    assert kept[1] != {one.name for one in with_masks(samples, 2, seed=4) if one.positive and one.has_mask}
    with pytest.raises(DataError, match="masks = 9, but 8"):
        with_masks(samples, 9, seed=3)


def test_masks_that_a_splits_file_withholds_are_not_trained_on(parts: Path, tmp_path: Path) -> None:
    samples = open_dataset(f"folder:{parts}").samples
    path = tmp_path / "split_8_5.pyb"

    def training(name: str, withheld: int, **changes: Any) -> Mapping[str, torch.Tensor]:
        defective = [one.name for one in samples if one.positive]
        entries = [(one.name, one.name not in defective[:withheld]) for one in samples]
        held_out = [(defective[-1], True), (entries.pop(0)[0], True)]
        entries.remove(held_out[0])
        path.write_bytes(pickle.dumps((entries, held_out)))
        wanted = settings(parts, epochs=2, test=0.0, validation=0.0, splits=path, **changes)
        return weights(train(wanted, tmp_path / name, Quiet(), resume=(tmp_path / name).exists()).checkpoint)

    none, of_file = training("none", 0, masks=0), training("file", 7)
    assert equal(none, of_file)
    assert not equal(of_file, training("two", 5))
    both = tmp_path / "both"
    training("both", 5, masks=1)
    withheld = Split.from_json(load_checkpoint(both / CHECKPOINT).facts["split"]).withheld
    defective = [one.name for one in samples if one.positive]
    assert len(withheld) == 5
    assert {*defective[1:5]} < {*withheld} < {*defective[1:7]}  # the first and the last one are held out
    assert json.loads((both / SPLIT).read_text())["withheld"] == list(withheld)
    with pytest.raises(DataError, match="masks = 6, but 2 defective training pictures have one"):
        training("more", 5, masks=6)
    assert not (tmp_path / "more").exists()
    with pytest.raises(ConfigError, match=r"checkpoint\.pt: .*split_8_5\.pyb changed since it was trained with"):
        training("two", 6)


def test_a_splits_file_that_withholds_other_masks_is_not_resumed_on() -> None:
    now = Split(("a", "b"), (), ("c",), "x", ("a",))
    refuse_other_split(now, now.to_json(), Path("run.pt"))
    for stored in (Split(("a", "b"), (), ("c",), "x").to_json(), replace(now, withheld=("a", "b")).to_json()):
        with pytest.raises(ConfigError, match=r"run\.pt: the masks to be used changed .* of 1 pictures, first"):
            refuse_other_split(now, stored, Path("run.pt"))
    stored = Split(("a", "b"), (), ("c",), "x").to_json()
    stored.pop("withheld")  # a run before there were any
    refuse_other_split(replace(now, withheld=()), stored, Path("run.pt"))


def test_pictures_without_a_mask_train_the_decision_alone(parts: Path, tmp_path: Path) -> None:
    """Without any mask nothing that is made of masks matters, and training still goes on."""
    first, second = (
        weights(train(settings(parts, epochs=2, masks=0, **changes), tmp_path / name, Quiet()).checkpoint)
        for name, changes in (("a", {"w_pos": 3.0}), ("b", {"w_pos": 30.0, "dilate": 15, "boxes": True}))
    )
    assert equal(first, second)
    assert all(torch.isfinite(value).all() for value in first.values())
