"""A bundle proves itself on its reference pictures, through the very inspection that will judge the parts."""

from __future__ import annotations

import time
from pathlib import Path

from segdec_edge.decision import Rule
from segdec_edge.errors import RecipeError
from segdec_edge.runtime.reference import Reference, read_reference_picture
from segdec_edge.station.inspection import Inspector
from segdec_edge.types import Backend, Frame, Verdict


def self_check(backend: Backend, rule: Rule, folder: Path, reference: Reference) -> float:
    """Judge every reference picture: its score within the tolerance, its label the same under the station's rule.

    The pictures are whole ones as in training: a station's view (region, rotation, mask) plays no part. Gives the
    largest difference of a score. Raises RecipeError on the first picture that is judged otherwise, BundleError on one
    that is missing or damaged.
    """
    inspector = Inspector(backend, rule, backend.spec.sha256)
    largest = 0.0
    for one in reference.pictures:
        pixels = read_reference_picture(folder, one)
        name = f"{folder / one.file} ({one.name})"
        frame = Frame(pixels, 0, time.time_ns(), time.monotonic_ns(), name)
        verdict = inspector.inspect(frame, one.file)
        apart = _difference(verdict, one.score, name)
        if not apart <= reference.tolerance:
            raise RecipeError(
                f"{name}: score {verdict.score:.6g} on {backend.name}, wanted {one.score:.6g} within"
                f" {reference.tolerance:g}: the bundle does not work here as where it was made. Rebuild its engine, or"
                " choose another backend."
            )
        if verdict.label.value != one.label:
            raise RecipeError(
                f"{name}: {verdict.label.value} ({verdict.reason}), wanted {one.label}: the rule passes or rejects what"
                " is known. Mend the threshold or rule, or make the reference again: segdec reference"
            )
        largest = max(largest, apart)
    return largest


def _difference(verdict: Verdict, wanted: float, name: str) -> float:
    if verdict.score is None:
        raise RecipeError(f"{name}: UNKNOWN ({verdict.reason}), wanted score {wanted:.6g}. Make the reference again.")
    return abs(verdict.score - wanted)
