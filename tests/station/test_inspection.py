"""Frame to verdict: whatever is wrong with a prediction is UNKNOWN, never OK."""

from __future__ import annotations

import time
from dataclasses import replace
from hashlib import sha256

import cv2
import numpy as np
import pytest

from segdec_edge.data.samples import FileSample
from segdec_edge.decision import Rule
from segdec_edge.errors import BackendError, FrameLost
from segdec_edge.evaluation.scoring import score_samples
from segdec_edge.pictures import read_picture
from segdec_edge.station.inspection import Inspector, infer_all
from segdec_edge.types import Frame, Label, Prediction, Verdict
from segdec_edge.view import View
from tests.fakes import level, plain_part


@pytest.fixture
def frame() -> Frame:
    return Frame(plain_part(100, (40, 60)), 7, 123, time.monotonic_ns(), "part.png")


@pytest.mark.parametrize(
    ("score", "label"), [(0.49, Label.OK), (0.5, Label.DEFECT), (0.0, Label.OK), (1.0, Label.DEFECT)]
)
def test_verdict_carries_all_that_is_known(frame: Frame, fake_backend, score: float, label: Label) -> None:
    backend = fake_backend(lambda _: score)
    verdict = Inspector(backend, Rule(0.5), "abc").inspect(frame, "part-7")
    assert (verdict.label, verdict.score, verdict.threshold) == (label, np.float32(score), 0.5)
    assert (verdict.part_id, verdict.sequence, verdict.captured_ns, verdict.source) == ("part-7", 7, 123, "part.png")
    assert verdict.bundle_sha256 == "abc"
    assert 0 < verdict.latency_ms < 1000
    assert abs(verdict.decided_ns - time.time_ns()) < 10**9
    assert verdict.heatmap is not None
    assert verdict.heatmap.shape == backend.spec.heatmap_hw
    assert backend.calls == [1]


def test_latency_counts_from_the_capture(fake_backend) -> None:
    frame = Frame(plain_part(0, (40, 60)), 0, 1, time.monotonic_ns() - 250_000_000, "x")
    verdict = Inspector(fake_backend(lambda _: 0.1), Rule(0.5), "abc").inspect(frame, "p")
    assert 250 <= verdict.latency_ms < 400


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
def test_score_that_is_none_is_unknown(frame: Frame, fake_backend, score: float) -> None:
    verdict = Inspector(fake_backend(lambda _: (score, np.zeros((4, 4), np.float32))), Rule(0.5), "abc").inspect(
        frame, "p"
    )
    assert (verdict.label, verdict.score) == (Label.UNKNOWN, None)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_heat_map_without_numbers_is_unknown_whatever_the_score(frame: Frame, fake_backend, bad: float) -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[3, 1] = bad
    verdict = Inspector(fake_backend(lambda _: (0.0, heat)), Rule(0.5), "abc").inspect(frame, "p")
    assert verdict.label is Label.UNKNOWN
    assert "NaN" in verdict.reason


@pytest.mark.parametrize(
    ("score_shape", "heat_shape"),
    [((2,), (2, 4, 4)), ((0,), (0, 4, 4)), ((1,), (1, 3, 4)), ((1,), (4, 4)), ((), (1, 4, 4))],
)
def test_prediction_of_another_shape_is_unknown(frame: Frame, fake_spec, score_shape, heat_shape) -> None:
    class Crooked:
        name, spec = "crooked", fake_spec

        def infer(self, pixels):
            return Prediction(np.zeros(score_shape, np.float32), np.zeros(heat_shape, np.float32))

        def close(self) -> None: ...

    assert Inspector(Crooked(), Rule(0.5), "abc").inspect(frame, "p").label is Label.UNKNOWN


def test_failing_backend_is_unknown_with_its_reason_in_one_line(frame: Frame, fake_backend) -> None:
    def fail(_):
        raise BackendError("device\nlost")

    verdict = Inspector(fake_backend(fail), Rule(0.5), "abc").inspect(frame, "p")
    assert (verdict.label, verdict.score, verdict.reason) == (Label.UNKNOWN, None, "device lost")


def test_bug_is_not_hidden_here(frame: Frame, fake_backend) -> None:
    with pytest.raises(ZeroDivisionError):
        Inspector(fake_backend(lambda _: 1 / 0), Rule(0.5), "abc").inspect(frame, "p")


def test_lost_frame_is_unknown() -> None:
    lost = FrameLost("cut off", sequence=4, source="x.png", captured_ns=time.time_ns())
    verdict = Inspector(None, Rule(0.5), "abc").lost(lost, "p", time.monotonic_ns())  # type: ignore[arg-type]
    assert (verdict.label, verdict.score, verdict.sequence, verdict.source) == (Label.UNKNOWN, None, 4, "x.png")
    assert verdict.reason == "cut off"
    assert 0 <= verdict.latency_ms < 1000


@pytest.mark.parametrize("value", [0, 117, 255])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_frame_that_shows_nothing_is_unknown_and_never_ok(fake_backend, value: int, channels: tuple[int, ...]) -> None:
    pixels = np.full((40, 60, *channels), value, np.uint8)
    pixels[3, 3] = value ^ 1
    backend = fake_backend(lambda _: 0.0)
    verdict = Inspector(backend, Rule(0.5), "abc").inspect(Frame(pixels, 0, 1, time.monotonic_ns(), "x.png"), "p")
    assert (verdict.label, verdict.score) == (Label.UNKNOWN, None)
    assert "without contrast" in verdict.reason
    assert backend.calls == []


def test_a_crop_of_a_part_is_unknown_unless_the_station_says_otherwise(frame: Frame, fake_backend, fake_spec) -> None:
    spec = replace(fake_spec, source_hw=((80, 120), (80, 120)))
    backend = fake_backend(lambda _: 0.0, spec)
    verdict = Inspector(backend, Rule(0.5), "abc").inspect(frame, "p")
    assert (verdict.label, verdict.score) == (Label.UNKNOWN, None)
    assert "a picture of 40x60 (HxW), trained on 80x120" in verdict.reason
    assert Inspector(backend, Rule(0.5), "abc", any_size=True).inspect(frame, "p").label is Label.OK


HOT = np.zeros((4, 4), np.float32)
HOT[1, 2] = 0.9


def frames(count: int) -> list[Frame]:
    return [Frame(plain_part(10 * one, (40, 60)), one, 1, time.monotonic_ns(), f"{one}.png") for one in range(count)]


def essence(verdict: Verdict) -> tuple[object, ...]:
    heat = None if verdict.heatmap is None else verdict.heatmap.tobytes()
    timeless = replace(verdict, heatmap=None, decided_ns=0, latency_ms=0.0)
    return timeless, heat


def test_a_batch_judges_each_frame_as_if_it_came_alone(fake_backend, fake_spec) -> None:
    inspector = Inspector(fake_backend(lambda picture: (level(picture), HOT)), Rule(0.1), "abc")
    alone = [inspector.inspect(frame, f"p{frame.sequence}") for frame in frames(7)]
    backend = fake_backend(lambda picture: (level(picture), HOT), replace(fake_spec, max_batch=3))
    together = Inspector(backend, Rule(0.1), "abc").inspect_batch(frames(7), [f"p{one}" for one in range(7)])
    assert [essence(one) for one in together] == [essence(one) for one in alone]
    assert backend.calls == [3, 3, 1]
    assert {one.label for one in together} == {Label.OK, Label.DEFECT}


def test_a_bad_frame_does_not_spoil_its_batch(fake_backend, fake_spec) -> None:
    batch = frames(4)
    batch[1] = replace(batch[1], pixels=np.full((40, 60), 7, np.uint8))
    batch[2] = replace(batch[2], pixels=plain_part(20, (20, 30)))
    backend = fake_backend(lambda picture: (0.2, HOT), replace(fake_spec, source_hw=((40, 60), (40, 60))))
    verdicts = Inspector(backend, Rule(0.5), "abc").inspect_batch(batch, list("abcd"))
    assert [one.label for one in verdicts] == [Label.OK, Label.UNKNOWN, Label.UNKNOWN, Label.OK]
    assert "without contrast" in verdicts[1].reason
    assert "a picture of 20x30" in verdicts[2].reason
    assert [one.sequence for one in verdicts] == [0, 1, 2, 3]
    assert backend.calls == [2]


def test_a_batch_whose_call_fails_is_unknown_and_the_next_call_gets_its_turn(fake_backend, fake_spec) -> None:
    calls = iter([True, False])

    class Flaky(fake_backend):
        def infer(self, pixels):
            if next(calls):
                raise BackendError("device lost")
            return super().infer(pixels)

    backend = Flaky(lambda _: 0.1, replace(fake_spec, max_batch=2))
    verdicts = Inspector(backend, Rule(0.5), "abc").inspect_batch(frames(4), list("abcd"))
    assert [one.label for one in verdicts] == [Label.UNKNOWN, Label.UNKNOWN, Label.OK, Label.OK]


def test_an_empty_batch_asks_nobody(fake_backend) -> None:
    backend = fake_backend(lambda _: 0.1)
    assert Inspector(backend, Rule(0.5), "abc").inspect_batch([], []) == []
    assert backend.calls == []


def test_the_three_steps_give_what_inspect_gives(frame: Frame, fake_backend) -> None:
    backend = fake_backend(lambda picture: (level(picture), HOT))
    inspector = Inspector(backend, Rule(0.1), "abc", camera="front", recipe="caps")
    (prediction,) = infer_all(backend, [inspector.prepare(frame)])
    verdict = inspector.judge(frame, "p", prediction)
    assert essence(verdict) == essence(inspector.inspect(frame, "p"))
    assert (verdict.camera, verdict.recipe) == ("front", "caps")
    lost = inspector.lost(FrameLost("gone", sequence=1, source="x", captured_ns=1), "q", time.monotonic_ns())
    assert (lost.camera, lost.recipe) == ("front", "caps")


def test_regions_are_filled_for_what_is_flagged_or_for_review_only(frame: Frame, fake_backend) -> None:
    def verdict(score: float) -> Verdict:
        rule = Rule(0.5, review=(0.3, 0.6))
        return Inspector(fake_backend(lambda _: (score, HOT)), rule, "abc").inspect(frame, "p")

    assert (verdict(0.1).regions, verdict(0.1).review) == ((), False)
    for score, label in ((0.4, Label.OK), (0.9, Label.DEFECT)):
        (region,) = verdict(score).regions
        assert region.box_xywh == (30, 10, 15, 10)
        assert (region.area_px, region.peak) == (150, np.float32(0.9))
        assert verdict(score).label is label
    assert verdict(0.4).review


def test_a_view_is_what_the_backend_sees_and_regions_lie_in_the_whole_picture(fake_backend, fake_spec) -> None:
    seen = []

    def judge(picture):
        seen.append(picture)
        return 0.9, HOT

    pixels = np.random.default_rng(0).integers(0, 256, (100, 120), np.uint8)
    spec = replace(fake_spec, source_hw=((32, 32), (32, 32)))
    view = View((50, 40, 32, 32), 90)
    frame = Frame(pixels, 0, 1, time.monotonic_ns(), "x")
    verdict = Inspector(fake_backend(judge, spec), Rule(0.5), "abc", view=view).inspect(frame, "p")
    np.testing.assert_array_equal(seen[0][:, :, 0], np.rot90(pixels[40:72, 50:82], -1))
    (region,) = verdict.regions
    # Cell (row 1, column 2), turned back by 90° clockwise: row 4 - 1 - 2 = 1, column 1.
    assert region.box_xywh == (50 + 8, 40 + 8, 8, 8)
    assert verdict.heatmap is not None
    laid = cv2.resize(verdict.heatmap, (120, 100), interpolation=cv2.INTER_NEAREST)
    y, x = np.unravel_index(int(laid.argmax()), laid.shape)
    assert abs(y - 52) <= 8
    assert abs(x - 62) <= 8
    small = replace(frame, pixels=pixels[:60])
    cut = Inspector(fake_backend(judge, spec), Rule(0.5), "abc", view=view, any_size=True).inspect(small, "p")
    assert (cut.label, cut.score) == (Label.UNKNOWN, None)
    assert "sticks out" in cut.reason


def test_the_mask_is_asked_by_the_heat_map_rule_and_a_wrong_one_is_unknown(frame: Frame, fake_backend) -> None:
    def label(ignore, combine="heatmap") -> Label:
        backend = fake_backend(lambda _: (0.9, HOT))
        return Inspector(backend, Rule(0.5, combine), "abc", ignore=ignore).inspect(frame, "p").label

    mask = np.zeros((40, 60), bool)
    assert label(mask) is Label.DEFECT
    mask[10:20, 30:45] = True
    assert label(mask) is Label.OK
    assert label(mask, "either") is Label.DEFECT
    assert label(mask[:39]) is Label.UNKNOWN
    assert label(~np.zeros((40, 60), bool)) is Label.UNKNOWN


@pytest.mark.parametrize("channels", [1, 3])
def test_the_station_scores_as_evaluation_does(tmp_path, fake_backend, fake_spec, channels: int) -> None:
    """Bit for bit, through the same pictures on disk: grey and colour, larger and smaller than the input."""
    rng = np.random.default_rng(channels)
    shapes = [(40, 60), (32, 32, 3), (90, 30, 3), (20, 20), (33, 31)]
    pictures = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
    spec = replace(fake_spec, channels=channels)
    backend = fake_backend(lambda seen: int.from_bytes(sha256(seen.tobytes()).digest()[:3], "big") / 2**24, spec)
    samples = []
    for number, pixels in enumerate(pictures):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), pixels)
        samples.append(FileSample(path.name, path.name, False, path))
    scored = score_samples(backend, samples)
    inspector = Inspector(backend, Rule(0.5), "abc")
    taken = [Frame(read_picture(one.path), 0, 1, 1, one.name) for one in samples]
    assert [inspector.inspect(frame, "p").score for frame in taken] == [one.score for one in scored]
    assert len({one.score for one in scored}) == len(shapes)
