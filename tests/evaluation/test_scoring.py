"""Scoring: every sample comes back, in order, with a score or with the reason why not."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.data.samples import FileSample
from segdec_edge.errors import BackendError, StorageError
from segdec_edge.evaluation.scoring import score_samples, write_scores_csv
from segdec_edge.types import Backend, ModelSpec, Pixels, Prediction
from tests.evaluation.made_parts import MadePart, brightness_backend
from tests.fakes import FAKE_SPEC, FakeBackend

PARTS = [MadePart(f"item{i}/side", i % 2 == 1, i / 5) for i in range(6)]


def test_heat_maps_are_kept_only_where_asked_for() -> None:
    kept, dropped = (score_samples(brightness_backend(), PARTS, keep_heatmaps=keep) for keep in (True, False))
    assert [one.score for one in kept] == [one.score for one in dropped]
    assert all(one.heatmap is not None for one in kept if one.score is not None)
    assert all(one.heatmap is None for one in dropped)


def test_scores_come_back_in_order_with_names_and_heatmaps() -> None:
    backend = brightness_backend()
    scored = score_samples(backend, PARTS)
    assert [one.name for one in scored] == [part.name for part in PARTS]
    assert [one.score for one in scored] == pytest.approx([part.score for part in PARTS], abs=1e-6)
    assert [(one.part, one.positive) for one in scored] == [(part.part, part.positive) for part in PARTS]
    assert all(one.heatmap is not None and one.heatmap.shape == (4, 4) and one.error is None for one in scored)
    assert backend.calls == [1] * 6


def test_pictures_are_prepared_to_the_backends_size_and_channels() -> None:
    seen: list[tuple[int, ...]] = []
    spec = replace(FAKE_SPEC, size_hw=(16, 24), channels=3)

    def judge(pixels: Pixels) -> float:
        seen.append(pixels.shape)
        return 0.5

    score_samples(FakeBackend(judge, spec), [MadePart("a", False, 0.1, size_hw=(50, 70))])
    assert seen == [(16, 24, 3)]


@pytest.mark.parametrize(("batch", "max_batch", "calls"), [(4, None, [4, 2]), (4, 3, [3, 3]), (1, 8, [1] * 6)])
def test_batches_respect_the_backend(batch: int, max_batch: int | None, calls: list[int]) -> None:
    backend = replace(brightness_backend(), spec=replace(FAKE_SPEC, max_batch=max_batch), calls=[])
    scored = score_samples(backend, PARTS, batch=batch)
    assert backend.calls == calls
    assert [one.score for one in scored] == [one.score for one in score_samples(brightness_backend(), PARTS)]


def test_progress_counts_parts() -> None:
    seen: list[tuple[int, int]] = []
    score_samples(brightness_backend(), PARTS, lambda done, total: seen.append((done, total)), batch=4)
    assert seen == [(4, 6), (6, 6)]


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_an_unreadable_picture_keeps_its_place_and_its_error(batch: int) -> None:
    parts = [*PARTS[:2], MadePart("cut", True, 0.9, broken="picture"), *PARTS[2:]]
    scored = score_samples(brightness_backend(), parts, batch=batch)
    assert [one.name for one in scored] == [part.name for part in parts]
    assert (scored[2].score, scored[2].heatmap, scored[2].error) == (None, None, "cut: the file ends early")
    assert scored[3].score == pytest.approx(PARTS[2].score, abs=1e-6)


@pytest.mark.parametrize("score", [0.0, 0.4, 1.0])
def test_a_picture_that_shows_nothing_has_no_score_as_on_the_line(score: float) -> None:
    flat, whole = score_samples(brightness_backend(), [MadePart("lid", False, score, broken="flat"), PARTS[0]], batch=2)
    assert (flat.score, flat.heatmap) == (None, None)
    assert flat.error is not None
    assert flat.error.startswith("lid: a picture without contrast (standard deviation 0 grey levels)")
    assert whole.score == pytest.approx(PARTS[0].score, abs=1e-6)


def test_only_unreadable_pictures_never_reach_the_backend() -> None:
    backend = brightness_backend()
    assert score_samples(backend, [MadePart("cut", True, 0.9, broken="picture")])[0].score is None
    assert backend.calls == []


@pytest.mark.parametrize("bad", [math.nan, 1.5, -0.1])
def test_a_score_the_station_would_not_use_is_an_error(bad: float) -> None:
    (one,) = score_samples(FakeBackend(lambda pixels: bad), PARTS[:1])
    assert one.score is None
    assert one.heatmap is None
    assert one.error is not None
    assert "no number in [0, 1]" in one.error


def test_no_sample_gives_no_score() -> None:
    assert score_samples(brightness_backend(), []) == ()


@dataclass
class ShortBackend:
    """Forgets the last score of every batch."""

    name: str = "short"
    spec: ModelSpec = field(default=FAKE_SPEC)

    def infer(self, pixels: Pixels) -> Prediction:
        return Prediction(np.zeros(len(pixels) - 1, np.float32), np.zeros((len(pixels), 4, 4), np.float32))

    def close(self) -> None:
        pass


def test_a_backend_that_loses_pictures_is_refused() -> None:
    with pytest.raises(BackendError, match=r"scores of shape \(2,\) for 3 pictures"):
        score_samples(ShortBackend(), PARTS[:3], batch=3)


def test_the_fake_is_a_backend() -> None:
    backend = brightness_backend()
    assert isinstance(backend, Backend)
    backend.close()
    assert backend.closed == 1
    with pytest.raises(BackendError, match="wanted uint8"):
        backend.infer(np.zeros((1, 8, 8, 1), np.uint8))


def test_csv_round_trips_every_score(tmp_path: Path) -> None:
    parts = [MadePart('a,"b"\n', True, 0.1), MadePart("cut", False, 0.9, broken="picture", path=Path("x/cut.png"))]
    scored = score_samples(brightness_backend(), parts)
    write_scores_csv(tmp_path / "scores.csv", scored)
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["name"], first["defective"], float(first["score"])) == ('a,"b"\n', "1", scored[0].score)
    assert (second["score"], second["error"], second["path"]) == ("", "cut: the file ends early", "x/cut.png")


def test_csv_into_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_scores_csv(tmp_path / "none" / "scores.csv", ())


@pytest.mark.data
def test_real_parts_are_read_from_disk(kolektor_root: Path) -> None:
    path = kolektor_root / "kos01" / "Part0.jpg"
    (one,) = score_samples(brightness_backend(), [FileSample("kos01/Part0", "kos01", False, path)])
    assert one.score is not None
    assert 0.05 < one.score < 0.95
    assert one.path == path
