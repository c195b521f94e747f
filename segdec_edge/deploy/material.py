"""Which real pictures an export is checked on. Knows data sets; export.py knows none."""

from __future__ import annotations

from pathlib import Path

from segdec_edge.data.spec import open_dataset, open_remembered
from segdec_edge.data.splits import Split
from segdec_edge.errors import ExportError
from segdec_edge.model.checkpoint import load_checkpoint
from segdec_edge.types import Pixels

PARITY_PICTURES = 8


def parity_pictures(checkpoint: Path, data: str | None = None, count: int = PARITY_PICTURES) -> list[Pixels]:
    """Up to `count` pictures, half of them defective where there are enough; training ones, where the split is known.

    data: a spec, None for the data set that the checkpoint names. Raises ExportError where neither is known, DataError.
    """
    loaded = load_checkpoint(checkpoint)
    spec = data or loaded.facts.get("settings", {}).get("data")
    if spec is None:
        raise ExportError(f"{checkpoint}: does not say what it was trained on. Give pictures: --data folder:PATH")
    dataset = open_dataset(data) if data else open_remembered(spec, checkpoint)
    known = "split" in loaded.facts and data is None
    samples = dataset.named(Split.from_json(loaded.facts["split"]).train) if known else dataset.samples
    defective = [sample for sample in samples if sample.positive][: count // 2]
    good = [sample for sample in samples if not sample.positive][: count - len(defective)]
    return [sample.read() for sample in (*defective, *good)]
