"""Two real processes under torchrun, with gloo on the CPU, against one process with the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from segdec_edge.errors import ConfigError, TrainingError
from segdec_edge.model.checkpoint import Checkpoint, load_checkpoint
from segdec_edge.training.feeding import require_divisible
from segdec_edge.training.parallel import Ranks
from segdec_edge.training.run import CHECKPOINT, train
from segdec_edge.training.setup import choose_hardware
from tests.training.made_parts import Interrupted, Quiet, settings, write_parts

SMALL: dict[str, Any] = {
    "size_hw": [64, 128], "epochs": 2, "validation": 0.0, "test": 0.0, "rate": 0.01, "width": 0.25
}  # fmt: skip


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As each process of torchrun has: with more the sums run in another order, and two steps later a ReLU flips."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 defective and 7 good: an epoch has 10 pictures, and its use counts are uneven."""
    return write_parts(tmp_path_factory.mktemp("parts"), good=7, defective=5)


def torchrun(output: Path, parts: Path, *options: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    chosen = settings(parts, **SMALL | changes).model_dump(mode="json", exclude_none=True, exclude={"size_hw"})
    pairs = [f"{key}={str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in chosen.items()]
    sets = [word for pair in pairs for word in ("--set", pair)]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*start, "-m", "segdec_edge", "train", "-o", str(output), "--size", "64x128", *sets, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


def assert_same(one: Checkpoint, two: Checkpoint) -> None:
    assert two.facts["processes"] == 2
    assert torch.equal(one.progress["use_counts"], two.progress["use_counts"])
    for digests in ("train_digests", "mask_digests"):
        assert one.facts[digests] == two.facts[digests]
    second = two.net.state_dict()
    worst = {key: float((value - second[key]).abs().max()) for key, value in one.net.state_dict().items()}
    assert max(worst.values()) < 1e-6, worst
    assert one.threshold == pytest.approx(two.threshold, rel=1e-2)


@pytest.mark.usefixtures("one_thread")
def test_two_processes_continue_what_one_began_and_train_as_one(parts: Path, tmp_path: Path) -> None:
    changes = {"batch": 4, "batch_mode": "mean", "paste": 0.5}  # 10 pictures an epoch: the last step has 2
    one = train(settings(parts, **SMALL, **changes), tmp_path / "one", Quiet())
    with pytest.raises(KeyboardInterrupt):
        train(settings(parts, **SMALL, **changes), tmp_path / "two", Interrupted())
    done = torchrun(tmp_path / "two", parts, "--resume", **changes)
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch 1 of 2" in done.stdout
    assert done.stdout.count("epoch 2/2") == 1  # the first process alone speaks
    assert "Warning" not in done.stderr
    assert_same(load_checkpoint(one.checkpoint), load_checkpoint(tmp_path / "two" / CHECKPOINT))


@pytest.mark.usefixtures("one_thread")
def test_single_pictures_are_added_and_parts_may_freeze(parts: Path, tmp_path: Path) -> None:
    # shares of 2 and 1, and the last step has one picture: none for the second process
    changes = {"batch": 3, "batch_mode": "summed", "scheme": "separate", "epochs": 1}
    one = train(settings(parts, **SMALL | changes), tmp_path / "one", Quiet())
    done = torchrun(tmp_path / "two", parts, **changes)
    assert done.returncode == 0, done.stderr
    assert_same(load_checkpoint(one.checkpoint), load_checkpoint(tmp_path / "two" / CHECKPOINT))


def test_a_failing_process_ends_all_with_one_line(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", good=7, defective=5)
    broken = parts / "images" / "p001.png"  # the second picture by name is the second process's
    broken.write_bytes(broken.read_bytes()[:900])
    started = time.monotonic()
    done = torchrun(tmp_path / "run", parts, batch=4)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("segdec: ")]
    assert len(lines) == 1
    assert "p001.png" in lines[0]
    assert 'File "' not in done.stderr.split("torch/distributed", 1)[0]  # torchrun's own report is below
    assert time.monotonic() - started < 60


def test_a_diverging_loss_ends_all_with_one_line(parts: Path, tmp_path: Path) -> None:
    done = torchrun(tmp_path / "run", parts, batch=3, rate=1e8)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("segdec: ")]
    assert len(lines) == 1
    assert "Lower rate" in lines[0]


def test_what_several_processes_cannot_do_is_refused(parts: Path) -> None:
    two = Ranks(1, 2, 1, 2)
    with pytest.raises(ConfigError, match="norm = 'feature'"):
        require_divisible(settings(parts, norm="batch", batch=4), two)
    with pytest.raises(ConfigError, match="leaves 1 of them without work"):
        require_divisible(settings(parts, batch=1), two)
    with pytest.raises(TrainingError, match="each takes its own GPU"):
        choose_hardware(settings(parts, device="cuda:1"), two)
    with pytest.raises(TrainingError, match=r"processes on a machine with \d+ GPUs"):
        choose_hardware(settings(parts, device="cuda"), Ranks(1, 999, 1, 999))


def test_the_shares_of_all_processes_are_the_batch() -> None:
    batch = torch.arange(5).numpy()
    shares = [Ranks(rank, 3, rank, 3).share(batch).tolist() for rank in range(3)]
    assert sorted(index for share in shares for index in share) == [0, 1, 2, 3, 4]
    assert [len(share) for share in shares] == [2, 2, 1]
