from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.data.folder import folder_dataset
from segdec_edge.data.memory import available_bytes, cache_limit
from segdec_edge.data.samples import Sample
from segdec_edge.data.stream import Examples, Memory, announce, labels_of
from segdec_edge.data.targets import Example, TargetRule, make_example
from segdec_edge.errors import PictureError
from segdec_edge.pictures import pixels_digest
from tests.training.made_parts import write_parts

RULE = TargetRule((64, 128), 1, boxes=False, dilate=3, weighted=True, p=2.0, w_pos=3.0, per="region")
PICTURE = 64 * 128 + 2 * 4 * 8 * 16
"""Bytes of one example while it waits."""


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    return folder_dataset("folder:parts", write_parts(tmp_path_factory.mktemp("parts"), 18, 12)).samples


def same(first: Example, second: Example) -> bool:
    if len(first.mirrored) != len(second.mirrored):
        return False
    mirrored = [
        (a, b) for one, two in zip(first.mirrored, second.mirrored, strict=True) for a, b in zip(one, two, strict=True)
    ]
    arrays = (*mirrored, (first.pixels, second.pixels), (first.mask, second.mask), (first.weights, second.weights))
    facts = [(one.name, one.positive, one.has_mask) for one in (first, second)]
    return facts[0] == facts[1] and all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in arrays)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("limit", [0, 1, 5 * PICTURE, 12 * PICTURE, 1 << 30])
def test_examples_are_the_same_however_few_are_kept(samples: tuple[Sample, ...], limit: int, workers: int) -> None:
    memory = Memory(limit)
    rng = np.random.default_rng(0)
    with Examples(samples, RULE, memory, workers) as examples:
        for _ in range(3):
            order = rng.integers(
                len(samples), size=40
            )  # with repetitions, as where defective parts outnumber good ones
            for index, example in zip(order, examples.read(order), strict=True):
                assert same(example, make_example(samples[index], RULE))
                assert memory.held <= max(limit, PICTURE)
        assert memory.most_held <= max(limit, PICTURE)
        assert (examples.kept == 0) == (limit <= PICTURE)
        assert limit < 1 << 30 or examples.kept == len(set(range(len(samples))))


@pytest.mark.parametrize("limit", [0, 8 * PICTURE, 1 << 30])
def test_mirrored_targets_are_kept_too(samples: tuple[Sample, ...], limit: int) -> None:
    rule = replace(RULE, flips=True)
    with Examples(samples, rule, Memory(limit), 2) as examples:
        for _ in range(2):
            for sample, example in zip(samples, examples, strict=True):
                assert same(example, make_example(sample, rule))


def test_what_is_kept_counts_and_is_not_read_again(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", 6, 6)
    samples = folder_dataset("folder:parts", parts).samples
    memory = Memory(1 << 30)
    with Examples(samples, RULE, memory, 2) as examples:
        whole = list(examples)
        assert 12 * 64 * 128 < memory.held < 12 * 64 * 128 * 1.05  # packed masks and weights take almost nothing
        for path in [*(parts / "images").iterdir(), *(parts / "masks").iterdir()]:
            path.unlink()
        assert all(same(one, again) for one, again in zip(whole, examples, strict=True))


def test_defective_parts_are_kept_first(samples: tuple[Sample, ...]) -> None:
    with Examples(samples, RULE, Memory(20 * PICTURE), 2) as examples:
        digests = examples.survey(range(len(samples)))
        assert 12 <= examples.kept < 20
        assert all(index in examples._kept for index in np.flatnonzero(examples.labels))
        assert digests == {i: pixels_digest(make_example(one, RULE).pixels) for i, one in enumerate(samples)}


def test_targets_are_kept_before_pictures(samples: tuple[Sample, ...]) -> None:
    with Examples(samples, RULE, Memory(7 * PICTURE), 1) as examples:
        examples.survey(range(len(samples)))
        assert len(examples._packed) == 12
        assert examples.kept < 7


def test_two_sets_share_one_limit(samples: tuple[Sample, ...]) -> None:
    memory = Memory(20 * PICTURE)
    with Examples(samples[:15], RULE, memory, 2) as first, Examples(samples[15:], RULE, memory, 2) as second:
        for _ in range(2):
            assert len([*first, *second]) == 30
        assert first.kept + second.kept < 20
        assert memory.most_held <= memory.limit


def test_asking_for_what_was_not_announced_works(samples: tuple[Sample, ...]) -> None:
    memory = Memory(0)
    with Examples(samples, RULE, memory, 2) as examples:
        announce(examples, [3, 4, 5])
        assert [examples[index].name for index in (7, 3, 9, 4, 5, 5)] == [samples[i].name for i in (7, 3, 9, 4, 5, 5)]
        examples.announce([1, 2])
    assert memory.held == 0


def test_a_broken_picture_is_named_when_its_turn_comes(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", 6, 2)
    broken = parts / "images" / "p004.png"
    broken.write_bytes(broken.read_bytes()[:900])
    samples = folder_dataset("folder:parts", parts).samples
    memory = Memory(1 << 30)
    with Examples(samples, RULE, memory, 3) as examples:
        stream = iter(examples)
        assert [next(stream).name for _ in range(4)] == ["p000", "p001", "p002", "p003"]
        with pytest.raises(PictureError, match=r"p004\.png"):
            next(stream)


def test_labels_are_known_without_reading(samples: tuple[Sample, ...]) -> None:
    with Examples(samples, RULE, Memory(0), 1) as examples:
        assert labels_of(examples).tolist() == [sample.positive for sample in samples]
        held = list(examples)
    assert labels_of(held).tolist() == [sample.positive for sample in samples]


def test_the_limit_is_shared_by_the_processes_of_a_machine() -> None:
    assert cache_limit(3.0, 2) == 3 << 29
    assert cache_limit(0.0) == 0
    assert 0 < cache_limit(None, 4) <= available_bytes() // 7
