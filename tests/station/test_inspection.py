"""Frame to verdict: whatever is wrong with a prediction is UNKNOWN, never OK."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from segdec_edge.decision import Rule
from segdec_edge.errors import BackendError, FrameLost
from segdec_edge.station.inspection import Inspector
from segdec_edge.types import Frame, Label, Prediction
from tests.fakes import plain_part


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
    verdict = Inspector(None, Rule(0.5), "abc").lost(lost, "p")  # type: ignore[arg-type]
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
