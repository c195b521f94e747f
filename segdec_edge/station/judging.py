"""A batch of prepared parts becomes verdicts: infer, then decide each. Knows no thread, no queue and no camera."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from segdec_edge.errors import SegdecError
from segdec_edge.profile import Profile
from segdec_edge.station.inspection import Inspector, infer_all
from segdec_edge.station.part import Part
from segdec_edge.station.supervisor import guarded, itself
from segdec_edge.types import Backend, Frame, Label, Pixels, Prediction, Verdict

_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


class AnyJudges(Protocol):
    """What a lane judges with: a warm backend, and each camera's inspector by the camera's name. A recipe is one.

    recipe by name; bundle: where it lies, None where that is not known; bundle_digest names its content; profile: what
    the bundle says of the training pictures, None where it says nothing.
    """

    @property
    def backend(self) -> Backend: ...

    @property
    def inspectors(self) -> Mapping[str, Inspector]: ...

    @property
    def recipe(self) -> str: ...

    @property
    def profile(self) -> Profile | None: ...

    @property
    def bundle(self) -> Path | None: ...

    @property
    def bundle_digest(self) -> str: ...

    def close(self) -> None:
        """Close the backend; for the thread that infers."""
        ...


@dataclass(frozen=True, eq=False)
class Judges:
    """One without a recipe. owned: close() closes the backend."""

    backend: Backend
    inspectors: Mapping[str, Inspector]
    owned: bool = True
    recipe: str = ""
    profile: Profile | None = None
    bundle: Path | None = None
    bundle_digest: str = ""

    def close(self) -> None:
        """Close the backend; for the thread that infers."""
        if self.owned:
            self.backend.close()


class Work(NamedTuple):
    """A part with its pictures, kept apart because the deadline may empty the part at any time."""

    part: Part
    frame: Frame
    prepared: Pixels
    judges: AnyJudges


def work_of(parts: Iterable[Part]) -> list[Work]:
    """The parts that still want a verdict and are ready for it."""
    return [
        Work(part, frame, prepared, judges)
        for part in parts
        if (frame := part.frame) is not None
        and (prepared := part.prepared) is not None
        and (judges := part.judges) is not None
    ]


def by_judges(work: Iterable[Work]) -> list[list[Work]]:
    """The same, in groups that one call of one backend takes."""
    groups: list[list[Work]] = []
    for one in work:
        for group in groups:
            limit = one.judges.backend.spec.max_batch
            if group[0].judges is one.judges and (limit is None or len(group) < limit):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def predicted(work: Sequence[Work]) -> list[Prediction] | Exception:
    """One call of the backend for the whole batch, all of the same judges; a failure as a value."""
    backend, pixels = work[0].judges.backend, [one.prepared for one in work]
    began_ns = time.monotonic_ns()
    outcome = guarded(lambda: infer_all(backend, pixels), itself)
    infer_ms = (time.monotonic_ns() - began_ns) / 1e6
    for one in work:
        one.part.stage_ms["infer"] = infer_ms
    return outcome


def judged(work: Work, outcome: list[Prediction] | Exception, index: int) -> tuple[Verdict, Exception | None]:
    """The verdict on one part of a batch; with the failure that made it UNKNOWN, if one did."""
    part, frame = work.part, work.frame
    inspector = work.judges.inspectors[part.camera]
    if isinstance(outcome, Exception):
        return inspector.unknown(frame, part.part_id, told(outcome)), outcome
    own = outcome[index]
    began_ns = time.monotonic_ns()
    verdict = guarded(lambda: inspector.judge(frame, part.part_id, own), itself)
    part.stage_ms["decide"] = (time.monotonic_ns() - began_ns) / 1e6
    if isinstance(verdict, Exception):
        return inspector.unknown(frame, part.part_id, told(verdict)), verdict
    return verdict, None


def same_recipe(one: AnyJudges, other: AnyJudges) -> bool:
    """Whether both judge alike: the same recipe with the same bundle, opened twice."""
    return (one.recipe, one.bundle_digest) == (other.recipe, other.bundle_digest)


def unusable(verdict: Verdict) -> bool:
    """Whether the backend's prediction held nothing to decide by."""
    return verdict.label is Label.UNKNOWN and verdict.score is None


def fault_of(verdict: Verdict) -> str:
    """The reason without what differs from frame to frame: its name, and every number (contrast, bytes, numbers)."""
    return _NUMBER.sub("0", verdict.reason.replace(" ".join(verdict.source.split()), ""))


def told(error: Exception) -> str:
    return str(error) if isinstance(error, SegdecError) else f"{type(error).__name__}: {error}"


def bug(error: Exception | None) -> Exception | None:
    """The error where it is one of ours, whose traceback belongs into the log."""
    return None if isinstance(error, SegdecError) else error
