"""Frame to verdict: prepare, infer, judge. Knows no camera, no ledger and no loop.

inspect() does all three. A loop that overlaps them calls prepare() in one thread, infer_all() in the backend's and
judge() in a third; whatever one of them raises, unknown() is the part's verdict.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from segdec_edge.decision import Decision, Rule, decide
from segdec_edge.errors import BackendError, FrameLost, PictureError, SegdecError
from segdec_edge.heat import Grid, grid_of, regions_of
from segdec_edge.pictures import prepare, refuse_flat, refuse_other_size
from segdec_edge.types import Backend, BoolMask, Frame, Label, Pixels, Prediction, Region, Verdict
from segdec_edge.view import WHOLE, View

_REASON_LENGTH = 500


class Inspector:
    """Judges one camera's frames with one backend and one rule; bundle_sha256, bundle_digest, camera and recipe go into
    each verdict.

    any_size: judge also pictures of another size than those trained on. view: the region to look at. ignore (H, W):
    True where heat does not count for the rule's heat map, in pixels of the whole picture; the score is one number for
    the whole region, and no mask changes it. prepare() and judge() may run in different threads.
    """

    def __init__(
        self,
        backend: Backend,
        rule: Rule,
        bundle_sha256: str,
        *,
        any_size: bool = False,
        view: View = WHOLE,
        ignore: BoolMask | None = None,
        camera: str = "camera",
        recipe: str = "",
        bundle_digest: str = "",
    ) -> None:
        self._backend, self._rule, self._bundle_sha256, self._any_size = backend, rule, bundle_sha256, any_size
        self._view, self._ignore, self._camera, self._recipe = view, ignore, camera, recipe
        self._bundle_digest = bundle_digest
        self._grid: Grid | None = None

    @property
    def backend(self) -> Backend:
        return self._backend

    def inspect(self, frame: Frame, part_id: str) -> Verdict:
        """Judge one frame. A picture that shows nothing, a backend that fails or gives no prediction: UNKNOWN."""
        return self.inspect_batch([frame], [part_id])[0]

    def inspect_batch(self, frames: Sequence[Frame], part_ids: Sequence[str]) -> list[Verdict]:
        """Judge frames together, in order, at most the backend's max_batch a call.

        A frame that cannot be judged is UNKNOWN by itself; a backend that fails makes UNKNOWN all of its call.
        """
        answers: dict[int, Prediction | SegdecError] = {}
        ready: dict[int, Pixels] = {}
        for index, frame in enumerate(frames):
            try:
                ready[index] = self.prepare(frame)
            except PictureError as error:
                answers[index] = error
        size = self._backend.spec.max_batch or max(1, len(ready))
        waiting = list(ready)
        for chosen in (waiting[start : start + size] for start in range(0, len(waiting), size)):
            answers |= zip(chosen, self._answers([ready[index] for index in chosen]), strict=True)
        numbered = enumerate(zip(frames, part_ids, strict=True))
        return [self._judged(frame, part_id, answers[index]) for index, (frame, part_id) in numbered]

    def prepare(self, frame: Frame) -> Pixels:
        """The network's input (H, W, C). Raises PictureError on a picture that shows nothing or has another size."""
        spec = self._backend.spec
        refuse_other_size(frame.pixels, None if self._any_size else spec.source_hw, frame.source, self._view)
        return refuse_flat(prepare(frame.pixels, spec.size_hw, spec.channels, self._view), frame.source)

    def judge(self, frame: Frame, part_id: str, prediction: Prediction) -> Verdict:
        """The verdict on a frame from its prediction of batch size 1, with the regions of what is flagged."""
        try:
            grid = self._grid_for(frame.pixels)
        except PictureError as error:
            return self.unknown(frame, part_id, str(error))
        decision = decide(prediction, self._rule, grid)
        return self._verdict(frame, part_id, decision, prediction, grid)

    def unknown(self, frame: Frame, part_id: str, reason: str) -> Verdict:
        """The verdict on a frame that could not be judged."""
        return self._verdict(frame, part_id, Decision(Label.UNKNOWN, None, _one_line(reason)), None, None)

    def lost(self, lost: FrameLost, part_id: str, opened_ns: int) -> Verdict:
        """The verdict on a trigger without a picture; opened_ns: when the part was entered, on the monotonic clock."""
        return Verdict(
            part_id=part_id,
            sequence=lost.sequence,
            label=Label.UNKNOWN,
            score=None,
            threshold=self._rule.threshold,
            reason=_one_line(str(lost)),
            captured_ns=lost.captured_ns,
            decided_ns=time.time_ns(),
            latency_ms=(time.monotonic_ns() - opened_ns) / 1e6,
            bundle_sha256=self._bundle_sha256,
            source=lost.source,
            camera=self._camera,
            recipe=self._recipe,
            bundle_digest=self._bundle_digest,
        )

    def _answers(self, prepared: Sequence[Pixels]) -> Sequence[Prediction | SegdecError]:
        try:
            return infer_all(self._backend, prepared)
        except BackendError as error:
            return [error] * len(prepared)

    def _judged(self, frame: Frame, part_id: str, answer: Prediction | SegdecError) -> Verdict:
        if isinstance(answer, Prediction):
            return self.judge(frame, part_id, answer)
        return self.unknown(frame, part_id, str(answer))

    def _grid_for(self, pixels: Pixels) -> Grid:
        """The grid for pictures of this size, made once: a camera's pictures all have one."""
        picture_hw = (pixels.shape[0], pixels.shape[1])
        grid = self._grid
        if grid is None or grid.picture_hw != picture_hw:
            grid = self._grid = grid_of(self._view, picture_hw, self._backend.spec.heatmap_hw, self._ignore)
        return grid

    def _verdict(
        self, frame: Frame, part_id: str, decision: Decision, prediction: Prediction | None, grid: Grid | None
    ) -> Verdict:
        heatmap, regions = None, tuple[Region, ...]()
        if prediction is not None and grid is not None and prediction.heatmap.shape == (1, *grid.heatmap_hw):
            heatmap = self._view.over_picture(prediction.heatmap[0], grid.picture_hw)
            if decision.label is Label.DEFECT or decision.review:
                regions = regions_of(prediction.heatmap[0], self._rule.level, grid)
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
            camera=self._camera,
            recipe=self._recipe,
            bundle_digest=self._bundle_digest,
            regions=regions,
            review=decision.review,
            device_ns=frame.device_ns,
        )


def infer_all(backend: Backend, prepared: Sequence[Pixels]) -> list[Prediction]:
    """One prediction of batch size 1 for each prepared picture (H, W, C), by one call. They may be several cameras'.

    Raises BackendError where the backend fails, or answers in another shape than asked or in no floating-point numbers.
    """
    batch = prepared[0][None] if len(prepared) == 1 else np.stack(prepared)
    prediction = backend.infer(batch)
    count, wanted = len(prepared), (len(prepared), *backend.spec.heatmap_hw)
    if prediction.score.shape != (count,):
        raise BackendError(
            f"scores of shape {prediction.score.shape}, wanted ({count},), one a picture. Export the bundle again."
        )
    if prediction.heatmap.shape != wanted:
        raise BackendError(f"heat map of shape {prediction.heatmap.shape}, wanted {wanted}. Export the bundle again.")
    for name, values in (("scores", prediction.score), ("a heat map", prediction.heatmap)):
        if values.dtype.kind != "f":  # a score cut to an integer is 0: it would pass as OK
            raise BackendError(f"{name} of type {values.dtype}, wanted float32. Export the bundle again.")
    return [Prediction(prediction.score[i : i + 1], prediction.heatmap[i : i + 1]) for i in range(count)]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_REASON_LENGTH]
