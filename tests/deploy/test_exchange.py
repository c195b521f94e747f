"""Checkpoints of the authors' implementation: taken over strictly, given back bit for bit."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segdec_edge.data.spec import open_dataset
from segdec_edge.data.splits import Split
from segdec_edge.deploy.exchange import TrainedOn, export_authors, import_checkpoint
from segdec_edge.errors import CheckpointError, ConfigError, DataError, ExportError, SizeError
from segdec_edge.evaluation.run import evaluate_artefact
from segdec_edge.evaluation.scoring import score_samples
from segdec_edge.evaluation.thresholds import best_f_threshold
from segdec_edge.files import sha256_of
from segdec_edge.model.artefact import open_artefact
from segdec_edge.model.backend import open_checkpoint
from segdec_edge.model.checkpoint import load_checkpoint
from tests.nets import SIZE_HW, lively_net, save_net
from tests.restatement import published_shapes
from tests.training.made_parts import write_parts

State = dict[str, Tensor]


def state_of(width: float = 0.125, channels: int = 1) -> State:
    return dict(lively_net(channels, width).state_dict())


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def parallel(state: State) -> State:
    return {f"module.{key}": value for key, value in state.items()}


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    OrderedDict,
    lambda state: {"state_dict": state, "epoch": 50},
    parallel,
    lambda state: {"state_dict": parallel(state)},
], ids=["bare", "ordered", "wrapped", "DataParallel", "both"])  # fmt: skip
def test_every_form_of_the_file_is_taken_over(tmp_path: Path, wrap: Callable[[State], object]) -> None:
    state = state_of()
    source = write(tmp_path / "authors.pth", wrap(state))
    written, run = import_checkpoint(source, tmp_path / "ours.pt", size_hw=SIZE_HW)
    found = load_checkpoint(tmp_path / "ours.pt")
    assert run is None
    assert found.size_hw == SIZE_HW
    assert found.threshold is None
    assert found.net.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in found.net.state_dict().items())
    imported = found.facts["imported"]
    assert imported == written.facts["imported"]
    assert (imported["file"], imported["sha256"]) == ("authors.pth", sha256_of(source))
    assert imported["when"].startswith("20")


@pytest.mark.parametrize("width", [0.5, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_width_and_channels_are_read_from_the_weights(tmp_path: Path, width: float, channels: int) -> None:
    source = write(tmp_path / "authors.pth", state_of(width, channels))
    net = import_checkpoint(source, tmp_path / "ours.pt")[0].net
    assert (net.width, net.in_channels, net.norm) == (width, channels, "feature")


def without(key: str) -> Callable[[State], object]:
    return lambda state: {name: value for name, value in state.items() if name != key}


REFUSED: dict[str, tuple[Callable[[State], object], str]] = {
    "key missing": (without("fc.bias"), "Missing key"),
    "first key missing": (without("volume.0.0.weight"), "no weights of SegDecNet"),
    "key too many": (lambda state: {**state, "volume.0.2.weight": torch.ones(1)}, "Unexpected key"),
    "some keys with module.": (
        lambda state: {("module." + key if key.startswith("fc") else key): one for key, one in state.items()},
        "Missing key",
    ),
    "wrong shape": (lambda state: {**state, "fc.weight": torch.ones(1, 66)}, "size mismatch for fc.weight"),
    "flat first weight": (lambda state: {**state, "volume.0.0.weight": torch.ones(3)}, "has shape"),
    "two channels": (lambda state: {**state, "volume.0.0.weight": torch.ones(4, 2, 5, 5)}, "in_channels is 2"),
    "no tensor": (lambda state: {**state, "fc.bias": 3.0}, "fc.bias is a float, wanted a weight"),
    "half precision": (lambda state: {key: one.half() for key, one in state.items()}, "wanted dense float32"),
    "double precision": (lambda state: {**state, "fc.bias": torch.ones(1).double()}, "fc.bias is float64"),
    "not a number": (lambda state: {**state, "fc.bias": torch.tensor([float("nan")])}, "no numbers"),
    "another network": (lambda state: nn.Linear(3, 4).state_dict(), "checkpoint of another network"),
    "wrapped nothing": (lambda state: {"state_dict": 5}, "holds no state_dict"),
    "empty wrapper": (lambda state: {"state_dict": {}}, "it is empty"),
    "another wrapper": (lambda state: {"model": state}, "no weights of SegDecNet"),
    "numbers as keys": (lambda state: {1: torch.ones(1)}, "holds no state_dict"),
    "a list": (lambda state: list(state.values()), "holds a list"),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused_in_one_line(tmp_path: Path, change: Callable[[State], object], words: str) -> None:
    source = write(tmp_path / "authors.pth", change(state_of()))
    refuse(source, tmp_path, words)


def refuse(source: Path, folder: Path, words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(source, folder / "ours.pt", size_hw=SIZE_HW)
    assert words in str(caught.value)
    assert str(source) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "ours.pt").exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_half_a_file_is_refused(tmp_path: Path, zipped: bool) -> None:
    torch.save(state_of(), tmp_path / "authors.pth", _use_new_zipfile_serialization=zipped)
    content = (tmp_path / "authors.pth").read_bytes()
    for length in (len(content) // 2, len(content) - 1):
        (tmp_path / "authors.pth").write_bytes(content[:length])
        refuse(tmp_path / "authors.pth", tmp_path, "not a readable checkpoint")


def test_a_file_from_before_torch_1_6_is_taken_over(tmp_path: Path) -> None:
    state = state_of()
    torch.save(state, tmp_path / "authors.pth", _use_new_zipfile_serialization=False)
    net = import_checkpoint(tmp_path / "authors.pth", tmp_path / "ours.pt")[0].net
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_a_file_written_on_a_gpu_is_taken_over(tmp_path: Path) -> None:
    """The file's storages are said to lie on cuda:0, as torch writes them there; the rest is the same."""
    state, source = state_of(), tmp_path / "authors.pth"
    torch.save(state, tmp_path / "cpu.pth")
    with zipfile.ZipFile(tmp_path / "cpu.pth") as before, zipfile.ZipFile(source, "w") as after:
        for entry in before.infolist():
            content = before.read(entry)
            after.writestr(entry, content.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0"))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(source, weights_only=True)
    net = import_checkpoint(source, tmp_path / "ours.pt")[0].net
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_one_of_ours_is_refused(tmp_path: Path) -> None:
    refuse(save_net(tmp_path / "net.pt", lively_net(width=0.1)), tmp_path, "is a checkpoint of segdec-edge")


def test_an_impossible_size_and_an_existing_output_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "authors.pth", state_of())
    with pytest.raises(SizeError, match="Nearest legal size"):
        import_checkpoint(source, tmp_path / "ours.pt", size_hw=(64, 64))
    (tmp_path / "ours.pt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        import_checkpoint(source, tmp_path / "ours.pt", size_hw=SIZE_HW)
    assert (tmp_path / "ours.pt").read_text() == "mine"


@pytest.mark.parametrize("channels", [1, 3])
def test_there_and_back_is_bit_for_bit(tmp_path: Path, channels: int) -> None:
    state = state_of(1.0, channels)
    state["fc.bias"] = torch.tensor([-0.0])
    import_checkpoint(write(tmp_path / "authors.pth", state), tmp_path / "ours.pt", size_hw=SIZE_HW)
    assert export_authors(tmp_path / "ours.pt", tmp_path / "back.pth") == len(state)
    back: dict[str, Any] = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(back) == list(state)
    assert {key: tuple(value.shape) for key, value in back.items()} == published_shapes(channels)
    for key, value in state.items():
        assert value.numpy().tobytes() == back[key].numpy().tobytes(), key
    with pytest.raises(ConfigError, match="is there already"):
        export_authors(tmp_path / "ours.pt", tmp_path / "back.pth")


@pytest.mark.parametrize("settings", [{"width": 0.5}, {"width": 1.0, "norm": "batch"}])
def test_a_network_that_the_authors_do_not_have_is_not_exported(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match="width 1 and norm feature only"):
        export_authors(save_net(tmp_path / "net.pt", lively_net(**settings)), tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory: pytest.TempPathFactory) -> TrainedOn:
    root = write_parts(tmp_path_factory.mktemp("parts"), good=14, defective=8)
    names = [f"p{index:03d}" for index in range(22)]
    test = names[:3] + names[8:13]
    lists = {"train": [name for name in names if name not in test], "test": test}
    path = root / "splits.json"
    path.write_text(json.dumps(lists))
    return TrainedOn(f"folder:{root}", splits=path)


def test_the_threshold_comes_from_training_pictures_and_the_test_is_evaluated(
    tmp_path: Path, trained_on: TrainedOn
) -> None:
    said: list[str] = []
    _, run = import_checkpoint(
        write(tmp_path / "authors.pth", state_of()), tmp_path / "ours.pt", size_hw=(64, 128), trained_on=trained_on,
        report=tmp_path / "report", say=said.append,
    )  # fmt: skip
    found = load_checkpoint(tmp_path / "ours.pt")
    dataset = open_dataset(trained_on.spec)
    split = Split.from_json(found.facts["split"])
    scored = score_samples(open_checkpoint(tmp_path / "ours.pt"), dataset.named(split.train))
    wanted = best_f_threshold([one.positive for one in scored], [one.score or 0.0 for one in scored])
    assert found.threshold == pytest.approx(wanted, rel=1e-5)
    assert "14 training pictures" in found.threshold_source
    assert len(found.facts["train_digests"]) == 14
    assert run is not None
    assert run.evaluation.count == 8
    assert run.evaluation.given.threshold == found.threshold
    assert run.trained_on == ()
    assert {"report.html", "scores.csv", "evaluation.json"} <= {path.name for path in (tmp_path / "report").iterdir()}
    assert len(said) == 2


def test_training_pictures_without_a_score_are_named(tmp_path: Path, trained_on: TrainedOn) -> None:
    root = tmp_path / "parts"
    shutil.copytree(Path(trained_on.spec.removeprefix("folder:")), root)
    (root / "images" / "p020.png").write_bytes(b"no picture")
    said: list[str] = []
    checkpoint, _ = import_checkpoint(
        write(tmp_path / "authors.pth", state_of()), tmp_path / "ours.pt", size_hw=(64, 128),
        trained_on=TrainedOn(f"folder:{root}", splits=trained_on.splits), say=said.append,
    )  # fmt: skip
    assert "13 training pictures" in checkpoint.threshold_source
    assert any("1 training pictures gave no score" in line and "p020.png" in line for line in said)


def test_test_pictures_cannot_move_the_threshold(tmp_path: Path, trained_on: TrainedOn) -> None:
    """The same training pictures, another test: the same threshold."""
    assert trained_on.splits is not None
    lists = json.loads(trained_on.splits.read_text())
    fewer = tmp_path / "fewer.json"
    fewer.write_text(json.dumps({**lists, "test": lists["test"][:1] + lists["test"][-1:]}))
    source = write(tmp_path / "authors.pth", state_of())
    thresholds = [
        import_checkpoint(
            source, tmp_path / f"{at}.pt", size_hw=(64, 128), trained_on=TrainedOn(trained_on.spec, splits=splits)
        )[0].threshold
        for at, splits in enumerate((trained_on.splits, fewer))
    ]
    assert thresholds[0] == thresholds[1]
    assert np.isfinite(thresholds[0] or np.nan)


def test_data_without_a_published_split_or_size_is_refused(tmp_path: Path, trained_on: TrainedOn) -> None:
    source = write(tmp_path / "authors.pth", state_of())
    (tmp_path / "bare").mkdir()
    bare = write_parts(tmp_path / "bare", good=2, defective=2)
    checkpoint, run = import_checkpoint(source, tmp_path / "new" / "folder" / "bare.pt")
    assert (checkpoint.threshold, run) == (None, None)
    for asked, size_hw, words in (
        (TrainedOn(f"folder:{bare}"), (64, 128), "A random split would test on some of them"),
        (trained_on, None, "Give it: --size"),
    ):
        with pytest.raises(ConfigError, match=words):
            import_checkpoint(source, tmp_path / "ours.pt", size_hw=size_hw, trained_on=asked)
    assert not (tmp_path / "ours.pt").exists()


def test_a_split_that_gives_no_threshold_is_refused_before_any_scoring(tmp_path: Path, trained_on: TrainedOn) -> None:
    assert trained_on.splits is not None
    lists = json.loads(trained_on.splits.read_text())
    good = [name for name in lists["train"] if name >= "p008"]
    said: list[str] = []
    for at, (changed, words) in enumerate((({"train": good}, "0 defective and 9 good"), ({"test": []}, "0 for the"))):
        splits = tmp_path / f"{at}.json"
        splits.write_text(json.dumps({**lists, **changed}))
        with pytest.raises(DataError, match=words):
            import_checkpoint(
                write(tmp_path / "authors.pth", state_of()), tmp_path / "ours.pt", size_hw=(64, 128),
                trained_on=TrainedOn(trained_on.spec, splits=splits), say=said.append,
            )  # fmt: skip
    assert said == []
    assert not (tmp_path / "ours.pt").exists()


@pytest.mark.parametrize("there", [False, True])
def test_an_import_that_fails_leaves_no_folder_that_was_not_there(
    tmp_path: Path, trained_on: TrainedOn, there: bool
) -> None:
    root = tmp_path / "parts"
    shutil.copytree(Path(trained_on.spec.removeprefix("folder:")), root)
    for path in (root / "images").iterdir():
        path.write_bytes(b"no picture")
    source = write(tmp_path / "authors.pth", state_of())
    if there:
        (tmp_path / "ours-test").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError):
        import_checkpoint(
            source, tmp_path / "ours.pt", size_hw=(64, 128),
            trained_on=TrainedOn(f"folder:{root}", splits=trained_on.splits),
        )  # fmt: skip
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(DataError):
        import_checkpoint(
            source, tmp_path / "new" / "ours.pt", size_hw=(64, 128), report=tmp_path / "new" / "deep" / "report",
            trained_on=TrainedOn(f"folder:{root}", splits=trained_on.splits),
        )  # fmt: skip
    assert sorted(tmp_path.iterdir()) == before


def test_published_folders_need_no_fold_and_evaluate_gives_the_same_figures(tmp_path: Path) -> None:
    for folder, count in (("train", 6), ("test", 4)):
        (tmp_path / "set" / folder).mkdir(parents=True)
        for index in range(count):
            noise = np.random.default_rng([count, index]).integers(0, 255, (64, 128, 3), np.uint8)
            mask = np.zeros((64, 128), np.uint8)
            mask[:, : 20 * (index % 2)] = 255
            name = tmp_path / "set" / folder / f"{count}{index:03}"
            cv2.imwrite(f"{name}.png", noise)
            cv2.imwrite(f"{name}_GT.png", mask)
    source = write(tmp_path / "authors.pth", state_of(channels=3))
    ours = tmp_path / "runs" / "ours.pt"
    trained_on = TrainedOn(f"kolektor2:{tmp_path / 'set'}")
    _, run = import_checkpoint(source, ours, size_hw=(64, 128), trained_on=trained_on)
    assert run is not None
    assert run.report == tmp_path / "runs" / "ours-test" / "report.html"
    artefact = open_artefact(ours)
    assert artefact.data == trained_on.spec
    dataset = open_dataset(trained_on.spec)
    again = evaluate_artefact(
        artefact.backend, artefact.facts, artefact.threshold_source, dataset, "test", tmp_path / "again"
    )
    assert again.evaluation == run.evaluation
    assert run.evaluation.count == 4
