from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from segdec_edge.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    MaskError,
    PictureError,
    SizeError,
    StorageError,
    TrainingError,
)
from segdec_edge.model.checkpoint import load_checkpoint, save_checkpoint
from segdec_edge.profile import NO_MODEL_FILE, Profile
from segdec_edge.training.run import CHECKPOINT, TrainResult, train
from tests.training.made_parts import Interrupted, Quiet, equal, settings, weights, write_parts

CHILD = Path(__file__).with_name("training_child.py")


@pytest.fixture(scope="module")
def trained(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Quiet]:
    quiet = Quiet()
    return train(settings(parts, epochs=12), tmp_path_factory.mktemp("run"), quiet), quiet


def test_the_profile_is_of_the_pictures_that_chose_the_threshold(trained: tuple[TrainResult, Quiet]) -> None:
    result, _ = trained
    checkpoint = load_checkpoint(result.checkpoint)
    profile = Profile.model_validate_json(json.dumps(checkpoint.facts["profile"]))
    split = json.loads((result.checkpoint.parent / "split.json").read_text())
    assert (profile.pictures, profile.subset) == (len(split["validation"]), "validation")
    assert profile.good is not None and profile.defective is not None
    assert profile.good.total + profile.defective.total == profile.pictures
    assert profile.defective.mean > profile.good.mean
    assert profile.brightness.mean == pytest.approx(148, abs=5)
    assert profile.model_sha256 == NO_MODEL_FILE


def test_training_learns_and_leaves_what_it_promises(trained: tuple[TrainResult, Quiet]) -> None:
    result, quiet = trained
    folder = result.checkpoint.parent
    assert [record.epoch for record in quiet.records] == list(range(1, 13))
    assert quiet.records[-1].validation_ap == 1.0
    assert quiet.records[-1].segmentation < quiet.records[0].segmentation / 2
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 13))
    split = json.loads((folder / "split.json").read_text())
    assert len(split["train"]) + len(split["validation"]) + len(split["test"]) == 22
    checkpoint = load_checkpoint(result.checkpoint)
    assert checkpoint.size_hw == (64, 128)
    assert checkpoint.threshold == result.threshold
    assert "validation pictures" in checkpoint.threshold_source
    assert checkpoint.facts["settings"]["width"] == 0.25
    assert len(checkpoint.facts["train_digests"]) == len(split["train"]) + len(split["validation"])
    assert not list(folder.glob(".segdec_tmp*"))


def test_the_same_seed_gives_the_same_weights_and_another_does_not(parts: Path, tmp_path: Path) -> None:
    paths = [
        train(settings(parts, epochs=1, seed=seed), tmp_path / name, Quiet()).checkpoint
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert equal(weights(paths[0]), weights(paths[1]))
    assert not equal(weights(paths[0]), weights(paths[2]))


def test_resume_after_kill_continues_bit_for_bit(parts: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, str(CHILD), str(parts)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(whole), "4"], check=True, capture_output=True, env=environment)
    with subprocess.Popen([*command, str(killed), "4"], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 3 "):  # in the middle of the third epoch
                process.send_signal(signal.SIGKILL)
                break
    assert load_checkpoint(killed / CHECKPOINT).epoch == 2
    resumed = subprocess.run([*command, str(killed), "4"], check=True, capture_output=True, text=True, env=environment)
    assert "step 3 " in resumed.stdout
    assert "step 2 " not in resumed.stdout
    first, second = load_checkpoint(whole / CHECKPOINT), load_checkpoint(killed / CHECKPOINT)
    assert equal(dict(first.net.state_dict()), dict(second.net.state_dict()))
    assert first.threshold == second.threshold
    assert torch.equal(first.progress["use_counts"], second.progress["use_counts"])


def test_what_a_kill_kept_from_the_log_is_there_after_resuming(parts: Path, tmp_path: Path) -> None:
    """It may come after the last checkpoint, where no epoch is left to write a log."""
    chosen = settings(parts, epochs=1)

    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "run", Interrupted())
    (tmp_path / "run" / "log.jsonl").unlink()
    (record,) = train(chosen, tmp_path / "run", Quiet(), resume=True).history
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text()) == asdict(record)
    assert record.seconds is not None and record.seconds > 0


def test_a_training_in_two_precisions_says_so(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, observer = settings(parts, epochs=2, precision="auto"), Quiet()
    for precision, watching in (("fp32", Interrupted()), ("bf16", observer)):
        monkeypatch.setattr("segdec_edge.training.setup.auto_precision", lambda *_, now=precision: now)
        with suppress(KeyboardInterrupt):
            train(chosen, tmp_path / "run", watching, resume=True)
    assert load_checkpoint(tmp_path / "run" / CHECKPOINT).facts["precision"] == "fp32, then bf16"
    assert any("was trained in fp32 so far, goes on in bf16" in note for note in observer.notes)


def test_an_existing_training_is_not_overwritten(trained: tuple[TrainResult, Quiet], parts: Path) -> None:
    folder = trained[0].checkpoint.parent
    with pytest.raises(ConfigError, match="--resume"):
        train(settings(parts, epochs=12), folder, Quiet())


def test_a_folder_that_another_process_trains_in_is_refused(parts: Path, tmp_path: Path) -> None:
    with (tmp_path / "training.lock").open("wb") as held:
        held.write(b"4711\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(
            TrainingError, match=r"another process trains there \(process 4711\)\. Wait for it or stop it"
        ):
            train(settings(parts, epochs=1), tmp_path, Quiet(), resume=True)
    assert not (tmp_path / CHECKPOINT).exists()
    train(settings(parts, epochs=1), tmp_path, Quiet())
    with (tmp_path / "training.lock").open("rb") as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_resuming_with_other_settings_names_them(trained: tuple[TrainResult, Quiet], parts: Path) -> None:
    folder = trained[0].checkpoint.parent
    with pytest.raises(ConfigError, match=r"rate = 0\.1 \(now 0\.7\)"):
        train(settings(parts, epochs=12, rate=0.7), folder, Quiet(), resume=True)
    with pytest.raises(CheckpointError, match=r"width 0\.25, the settings say 0\.5"):
        train(settings(parts, epochs=12, width=0.5), folder, Quiet(), resume=True)


def test_a_finished_training_resumes_to_the_same_result(trained: tuple[TrainResult, Quiet], parts: Path) -> None:
    folder = trained[0].checkpoint.parent
    quiet = Quiet()
    again = train(settings(parts, epochs=12), folder, quiet, resume=True)
    assert again.threshold == trained[0].threshold
    assert quiet.records == []


@pytest.mark.parametrize(
    "changes",
    [
        {"balanced_loss": False},
        {"gradient_stop": False},
        {"frequency_sampling": False},
        {"distance_weights": False},
        {"target": "label"},
        {"distance_per": "image"},
        {"boxes": True, "dilate": 5},
        {"batch": 4, "batch_mode": "mean"},
        {"batch": 4, "batch_mode": "summed"},
        {"norm": "batch"},
        {"scheme": "separate"},
        {"flips": True},
        {"paste": 0.5},
        {"masks": 1},
        {"average_epochs": 2},
        {"precision": "bf16"},
        {"channels": 3},
        {"channels_last": False},
    ],
)
def test_every_switch_changes_the_weights(
    parts: Path, tmp_path: Path, plain: dict[str, torch.Tensor], changes: dict[str, Any]
) -> None:
    result = train(settings(parts, epochs=2, **changes), tmp_path / "run", Quiet())
    state = weights(result.checkpoint)
    assert all(torch.isfinite(value).all() for value in state.values())
    same = state.keys() == plain.keys() and all(
        state[key].shape == plain[key].shape and torch.equal(state[key], plain[key]) for key in plain
    )
    if changes != {"channels_last": False}:  # a layout is no setting of the method: it may or may not round elsewhere
        assert not same


@pytest.fixture(scope="module")
def plain(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return weights(train(settings(parts, epochs=2), tmp_path_factory.mktemp("plain"), Quiet()).checkpoint)


def test_a_summed_batch_is_a_true_batch_at_a_rate_as_many_times_higher(parts: Path, tmp_path: Path) -> None:
    """FeatureNorm knows one picture only, so both differ by the factor B alone (all batches of one epoch are full)."""
    # 4 of the 8 defective parts are trained on: an epoch is 8 pictures
    summed = train(settings(parts, epochs=1, batch=4, batch_mode="summed", rate=0.025), tmp_path / "a", Quiet())
    mean = train(settings(parts, epochs=1, batch=4, batch_mode="mean", rate=0.1), tmp_path / "b", Quiet())
    assert load_checkpoint(summed.checkpoint).facts["positives"] == 4
    first, second = weights(summed.checkpoint), weights(mean.checkpoint)
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], rtol=1e-3, atol=1e-5)


def test_the_best_epoch_is_kept_where_asked(parts: Path, tmp_path: Path) -> None:
    result = train(settings(parts, epochs=4, keep="best"), tmp_path / "run", Quiet())
    assert result.checkpoint.name == "best.pt"
    aps = [record.validation_ap or 0.0 for record in result.history]
    assert load_checkpoint(result.checkpoint).epoch == int(np.argmax(aps)) + 1


def test_tensorboard_gets_every_epoch(parts: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(settings(parts, epochs=2, tensorboard=True), tmp_path / "run", Quiet())
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("segmentation")] == [1, 2]
    assert "validation_ap" in events.Tags()["scalars"]


def test_a_diverging_loss_stops_and_names_the_setting(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"Lower rate \(now 1e\+08"):
        train(settings(parts, rate=1e8), tmp_path / "run", Quiet())


def test_an_all_good_data_set_is_refused(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", good=6, defective=0)
    with pytest.raises(DataError, match="0 defective and"):
        train(settings(parts), tmp_path / "run", Quiet())


def test_illegal_sizes_name_the_nearest_legal_one(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(SizeError, match="704x256"):
        train(settings(parts, size_hw=[700, 256]), tmp_path / "run", Quiet())
    with pytest.raises(SizeError, match="Nearest legal size"):
        train(settings(parts, size_hw=[64, 64]), tmp_path / "run", Quiet())


def test_an_output_that_cannot_be_written_is_refused(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        train(settings(parts), tmp_path / "file" / "run", Quiet())
    with pytest.raises(StorageError):
        train(settings(parts), Path("/proc/segdec"), Quiet())


def test_a_device_that_is_not_there_is_refused(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="device"):
        train(settings(parts, device="cuda:93"), tmp_path / "run", Quiet())
    assert not (tmp_path / "run").exists()


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", good=6, defective=6)
    for path in (parts / "masks").iterdir():
        cv2.imwrite(str(path), np.full((32, 32), 255, np.uint8))
    with pytest.raises(MaskError, match="wanted the same size"):
        train(settings(parts), tmp_path / "run", Quiet())


def test_a_truncated_picture_stops_training_with_its_name(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", good=6, defective=6)
    for path in (parts / "images").iterdir():
        path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(PictureError, match=r"p0\d\d\.png"):
        train(settings(parts), tmp_path / "run", Quiet())


def test_weights_without_progress_cannot_be_resumed(
    trained: tuple[TrainResult, Quiet], parts: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / CHECKPOINT, replace(load_checkpoint(trained[0].checkpoint), progress={}))
    with pytest.raises(ConfigError, match="holds weights only"):
        train(settings(parts, epochs=12), tmp_path, Quiet(), resume=True)


def test_more_defective_than_good_parts_can_be_trained_on(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", good=4, defective=12)
    result = train(settings(parts, epochs=2, validation=0.0, test=0.0), tmp_path / "run", Quiet())
    checkpoint = load_checkpoint(result.checkpoint)
    assert (checkpoint.facts["positives"], checkpoint.facts["negatives"]) == (12, 4)
    assert checkpoint.progress["use_counts"].tolist() == [6, 6, 6, 6]
    assert "16 training pictures" in checkpoint.threshold_source


@pytest.mark.parametrize("validation", [0.1, 0.0])
def test_the_best_epoch_needs_validation_pictures_of_both_kinds(tmp_path: Path, validation: float) -> None:
    small = write_parts(tmp_path / "parts", good=10, defective=2)
    if validation:
        with pytest.raises(DataError, match=r"keep = 'best' with 0 defective and 1 good validation pictures"):
            train(settings(small, keep="best", validation=validation, test=0.0), tmp_path / "run", Quiet())
    else:
        with pytest.raises(ConfigError, match="needs a validation share"):
            settings(small, keep="best", validation=validation)
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def test_a_validation_share_beside_a_published_split_is_refused(parts: Path) -> None:
    with pytest.raises(ConfigError, match="no effect on a published split"):
        settings(parts, fold=0, validation=0.2)


@pytest.mark.parametrize("validation", [0.2, 0.0])
def test_a_divergence_in_the_last_step_names_the_setting_and_keeps_no_weights(
    parts: Path, tmp_path: Path, validation: float
) -> None:
    wanted = settings(parts, epochs=1, batch=64, rate=1e38, validation=validation)
    with pytest.raises(DivergedError, match=r"training diverged. Lower rate \(now 1e\+38; try 1e\+37\)"):
        train(wanted, tmp_path / "run", Quiet())
    assert not (tmp_path / "run" / CHECKPOINT).exists()


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "repainted", "drawn again"])
def test_a_data_set_that_changed_since_is_not_resumed_on(tmp_path: Path, change: str) -> None:
    """Parts would move between the subsets: what was trained on would be tested on."""
    parts = write_parts(tmp_path / "parts", good=14, defective=8)
    chosen = settings(parts, epochs=2)

    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "run", Interrupted())
    before = (tmp_path / "run" / "split.json").read_bytes()
    one = parts / "images" / f"{json.loads(before)['train'][-1]}.png"
    if change == "added":
        shutil.copy(one, parts / "images" / "q000.png")
    elif change == "drawn again":
        masks = parts / "masks"
        drawn = next(masks / f"{name}.png" for name in json.loads(before)["train"] if (masks / f"{name}.png").exists())
        cv2.imwrite(str(drawn), cv2.flip(cv2.imread(str(drawn), 0), 0))
    elif change == "repainted":
        cv2.imwrite(str(one), 255 - cv2.imread(str(one), 0))
    else:
        one.rename(parts / "images" / "z.png" if change == "renamed" else tmp_path / "gone.png")
    told = {"repainted": "1 pictures have other pixels", "drawn again": "1 pictures have other masks"}.get(
        change, "the data set changed since it was trained"
    )
    with pytest.raises(ConfigError, match=told):
        train(chosen, tmp_path / "run", Quiet(), resume=True)
    assert (tmp_path / "run" / "split.json").read_bytes() == before


def test_a_checkpoint_knows_the_sizes_it_was_trained_on(trained: tuple[TrainResult, Quiet]) -> None:
    assert load_checkpoint(trained[0].checkpoint).facts["source_hw"] == [[64, 128], [64, 128]]
