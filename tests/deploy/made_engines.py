"""Bundles to build engines of, and a GPU to build them for. No test of its own."""

from __future__ import annotations

from pathlib import Path

from segdec_edge.bundle import Bundle, model_facts, write_bundle
from segdec_edge.deploy.export import export_checkpoint
from segdec_edge.runtime.gpu import Gpu
from tests.nets import lively_net, save_net, textures

A4000 = Gpu("NVIDIA RTX A4000", (8, 6), 48)


def exported(folder: Path, width: float, size_hw: tuple[int, int]) -> Bundle:
    checkpoint = save_net(folder / "net.pt", lively_net(width=width), size_hw=size_hw)
    pictures = list(textures(1, size_hw=size_hw)[..., 0])
    return export_checkpoint(checkpoint, folder / "parts.bundle", pictures=pictures, simplify=False)


def with_model(path: Path, like: Bundle, content: bytes, precision: str) -> Bundle:
    """A bundle of the same facts with another graph."""
    facts = model_facts(content, opset=17, precision=precision, simplified=False)
    return write_bundle(path, onnx_bytes=content, meta=like.meta.model_copy(update={"model": facts}))
