"""Small bundles with a split on synthetic parts, for the tests of calibration and quantisation."""

from __future__ import annotations

from pathlib import Path

import torch

from segdec_edge.bundle import Bundle
from segdec_edge.data.spec import open_dataset
from segdec_edge.data.splits import choose_split
from segdec_edge.deploy.export import export_checkpoint
from segdec_edge.model.segdecnet import NormKind
from tests.nets import SIZE_HW, lively_net, save_net

SPEC = "synthetic:seed=3,n=60,size=128x64"
THRESHOLD = 0.5


def made_bundle(folder: Path, norm: NormKind = "feature", *, split: bool = True, width: float = 0.1) -> Bundle:
    """A bundle of a lively network. norm batch: its export has Conv, bias and ReLU alone, as a folded network."""
    dataset = open_dataset(SPEC)
    facts: dict[str, object] = {"settings": {"data": SPEC}}
    if split:
        facts["split"] = choose_split(dataset, seed=0, validation=0.2, test=0.3).to_json()
    net = lively_net(width=width, norm=norm)
    if norm == "batch":
        with torch.no_grad():
            net.fc.weight.mul_(40)  # without its own statistics its scores hardly differ
    checkpoint = save_net(folder / f"{norm}.pt", net, threshold=THRESHOLD, threshold_source="by hand", facts=facts)
    pictures = [sample.read() for sample in dataset.samples[:2]]
    return export_checkpoint(checkpoint, folder / f"{norm}.bundle", size_hw=SIZE_HW, pictures=pictures, simplify=False)
