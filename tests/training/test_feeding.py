from __future__ import annotations

from pathlib import Path

import pytest

from segdec_edge.model.checkpoint import load_checkpoint
from segdec_edge.training.run import train
from tests.training.made_parts import Quiet, equal, settings, weights


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_pictures_train_bit_for_bit_as_kept_ones(parts: Path, tmp_path: Path, workers: int) -> None:
    kept = train(settings(parts, epochs=2), tmp_path / "kept", Quiet())
    limit = 5 * 64 * 128 / 2**30
    streamed = train(settings(parts, epochs=2, cache_gib=limit, workers=workers), tmp_path / "streamed", Quiet())
    assert equal(weights(kept.checkpoint), weights(streamed.checkpoint))
    assert kept.threshold == streamed.threshold
    facts = [load_checkpoint(result.checkpoint).facts for result in (kept, streamed)]
    assert facts[0]["train_digests"] == facts[1]["train_digests"]


def test_a_training_may_continue_with_less_memory(parts: Path, tmp_path: Path) -> None:
    train(settings(parts, epochs=1), tmp_path / "run", Quiet())
    quiet = Quiet()
    train(settings(parts, epochs=1, cache_gib=0.0, workers=0), tmp_path / "run", quiet, resume=True)
    assert "finished already" in quiet.notes[0]
