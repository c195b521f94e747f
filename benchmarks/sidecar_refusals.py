"""Provokes every refusal of a TensorRT engine once, with a real plan, and keeps what was said.

The plan is built for SM86 by TensorRT-RTX without a GPU. Another model, a truncated plan, a changed byte and a missing
sidecar are real files; the version and the GPU that do not fit are told to the check as this machine's; the missing
driver is this machine's own, where it has none.

    python benchmarks/sidecar_refusals.py parts.bundle other.bundle -o benchmarks/results/sidecar_refusals.json
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from entry import one_line

from segdec_edge import __version__
from segdec_edge.bundle import Bundle, read_bundle
from segdec_edge.deploy.engine import build_engine
from segdec_edge.errors import SegdecError
from segdec_edge.files import require_place, write_atomic
from segdec_edge.runtime.gpu import Gpu, current_gpu
from segdec_edge.runtime.sidecar import Here, find_plan, plans_of, sidecar_of
from segdec_edge.runtime.tensorrt import open_tensorrt
from segdec_edge.runtime.tensorrt_api import find_tensorrt

RTX_3060 = Gpu("NVIDIA GeForce RTX 3060", (8, 6), 28)
RTX_4090 = Gpu("NVIDIA GeForce RTX 4090", (8, 9), 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("other", type=Path, help="a bundle of another model, for the same pictures")
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    require_place(asked.out)
    for bundle in (asked.bundle, asked.other):
        read_bundle(bundle)
    tensorrt = find_tensorrt("tensorrt_rtx")
    here = Here(tensorrt.name, tensorrt.version, RTX_3060)
    newer = replace(here, version=(*tensorrt.version[:1], tensorrt.version[1] + 1, *tensorrt.version[2:]))
    with TemporaryDirectory() as folder:
        built = _copied(asked.bundle, Path(folder) / "parts.bundle")
        build_engine(built, target="sm86", tensorrt=tensorrt)
        find_plan(built, here)  # it fits, before anything is wrong
        provoked: dict[str, Callable[[], object]] = {
            "other TensorRT version": lambda: find_plan(built, newer),
            "other GPU": lambda: find_plan(built, replace(here, gpu=RTX_4090)),
            "other ONNX": lambda: find_plan(_moved(built, asked.other), here),
            "truncated plan": lambda: find_plan(_spoiled(built, lambda data: data[: len(data) // 2]), here),
            "changed byte": lambda: find_plan(_spoiled(built, _changed), here),
            "missing sidecar": lambda: find_plan(_without_sidecar(built), here),
        }
        if current_gpu() is None:
            provoked["no driver"] = lambda: open_tensorrt(built)
        said = {name: _said(name, provoke, folder) for name, provoke in provoked.items()}
    record = {"segdec_edge": __version__, "runtime": str(tensorrt), "said": said}
    write_atomic(asked.out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    for name, words in said.items():
        print(f"{name}: {words}")


def _said(name: str, provoke: Callable[[], object], folder: str) -> str:
    try:
        provoke()
    except SegdecError as error:
        return str(error).replace(f"{folder}/", "")
    raise SystemExit(f"{name}: was not refused")


def _copied(bundle: Path, to: Path) -> Bundle:
    return read_bundle(shutil.copytree(bundle, to, ignore=shutil.ignore_patterns("engines")))


def _again(bundle: Bundle) -> Bundle:
    """A fresh copy, so that one fault does not hide the next."""
    to = bundle.path.with_name(f"{len(list(bundle.path.parent.iterdir()))}.bundle")
    return read_bundle(shutil.copytree(bundle.path, to))


def _moved(built: Bundle, other: Path) -> Bundle:
    """The engines in a bundle of another model."""
    bundle = _copied(other, built.path.with_name("other.bundle"))
    shutil.copytree(built.path / "engines", bundle.path / "engines")
    return bundle


def _spoiled(built: Bundle, spoil: Callable[[bytes], bytes]) -> Bundle:
    bundle = _again(built)
    for plan in plans_of(bundle):
        plan.write_bytes(spoil(plan.read_bytes()))
    return bundle


def _changed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _without_sidecar(built: Bundle) -> Bundle:
    bundle = _again(built)
    for plan in plans_of(bundle):
        sidecar_of(plan).unlink()
    return bundle


if __name__ == "__main__":
    one_line(main)
