"""Frame to verdict: prepare, infer, decide. Knows no camera, no ledger and no loop."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from segdec_edge.decision import Decision, Rule, decide
from segdec_edge.errors import BackendError, FrameLost, PictureError
from segdec_edge.pictures import prepare, refuse_flat, refuse_other_size
from segdec_edge.types import Backend, Frame, Label, Prediction, Verdict

_REASON_LENGTH = 500


class Inspector:
    """Judges frames with one backend and one rule; bundle_sha256 goes into every verdict. Used by one thread.

    any_size: judge also pictures of another size than those trained on.
    """

    def __init__(self, backend: Backend, rule: Rule, bundle_sha256: str, *, any_size: bool = False) -> None:
        self._backend, self._rule, self._bundle_sha256, self._any_size = backend, rule, bundle_sha256, any_size

    def inspect(self, frame: Frame, part_id: str) -> Verdict:
        """Judge one frame. A picture that shows nothing, a backend that fails or gives no prediction: UNKNOWN."""
        try:
            prediction = self._predict(frame)
        except (BackendError, PictureError) as error:
            return self.unknown(frame, part_id, str(error))
        return self._verdict(frame, part_id, decide(prediction, self._rule), prediction.heatmap[0])

    def unknown(self, frame: Frame, part_id: str, reason: str) -> Verdict:
        """The verdict on a frame that could not be judged."""
        return self._verdict(frame, part_id, Decision(Label.UNKNOWN, None, _one_line(reason)), None)

    def lost(self, lost: FrameLost, part_id: str) -> Verdict:
        """The verdict on a trigger without a picture; latency_ms counts from when the loss was noticed."""
        now_ns = time.time_ns()
        return Verdict(
            part_id=part_id,
            sequence=lost.sequence,
            label=Label.UNKNOWN,
            score=None,
            threshold=self._rule.threshold,
            reason=_one_line(str(lost)),
            captured_ns=lost.captured_ns,
            decided_ns=now_ns,
            latency_ms=max(0.0, (now_ns - lost.captured_ns) / 1e6),
            bundle_sha256=self._bundle_sha256,
            source=lost.source,
        )

    def _predict(self, frame: Frame) -> Prediction:
        spec = self._backend.spec
        refuse_other_size(frame.pixels, None if self._any_size else spec.source_hw, frame.source)
        prepared = refuse_flat(prepare(frame.pixels, spec.size_hw, spec.channels), frame.source)
        prediction = self._backend.infer(prepared[None])
        wanted = (1, *spec.heatmap_hw)
        if prediction.heatmap.shape != wanted:
            raise BackendError(
                f"heat map of shape {prediction.heatmap.shape}, wanted {wanted}. Export the bundle again."
            )
        return prediction

    def _verdict(self, frame: Frame, part_id: str, decision: Decision, heatmap: NDArray[np.float32] | None) -> Verdict:
        return Verdict(
            part_id=part_id,
            sequence=frame.sequence,
            label=decision.label,
            score=decision.score,
            threshold=self._rule.threshold,
            reason=decision.reason,
            captured_ns=frame.captured_ns,
            decided_ns=time.time_ns(),
            latency_ms=(time.monotonic_ns() - frame.captured_monotonic_ns) / 1e6,
            bundle_sha256=self._bundle_sha256,
            source=frame.source,
            heatmap=heatmap,
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_REASON_LENGTH]
