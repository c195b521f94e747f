"""Ultralytics' YOLO11n-seg on the same pictures and masks, at the same size. AGPL: for this comparison only.

No pre-trained weights: they are on no package registry. So it is trained from scratch and briefly, and its accuracy is
that of such a training, not what the model can do. The score of a picture is that of its most certain region, 0 without
any.

    python ultralytics_segment.py FOLDER EPOCHS    # from FOLDER/train; leaves model.pt and its OpenVINO form
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cpu_torchvision  # noqa: F401
import cv2
import numpy as np
import torch
from serve import Judge, Picture, serve

os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false")
PT, OPENVINO = "model.pt", "model_openvino_model"
SEED, BATCH = 0, 4


def use_its_own_nms() -> None:
    """Ultralytics takes torchvision's where something has imported torchvision, which computes nothing here."""
    import torchvision
    from ultralytics.utils.nms import TorchNMS

    torchvision.ops.nms = TorchNMS.nms


def label(mask: Picture) -> str:
    """A line for each region: class 0 and its outline as shares of width and height."""
    height, width = mask.shape
    outlines, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    lines = []
    for outline in outlines:
        points = outline[:, 0, :] if len(outline) > 2 else _box(outline)
        shares = [f"{x / width:.5f} {y / height:.5f}" for x, y in points]
        lines.append("0 " + " ".join(shares))
    return "\n".join(lines)


def _box(outline: Any) -> list[tuple[int, int]]:
    """A region of a line or a dot still has an area."""
    left, top, width, height = cv2.boundingRect(outline)
    return [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]


def train(folder: Path, epochs: int) -> None:
    from ultralytics import YOLO

    use_its_own_nms()
    pictures = folder / "yolo" / "images"
    labels = folder / "yolo" / "labels"
    for made in (pictures, labels):
        made.mkdir(parents=True, exist_ok=True)
    for path in sorted((folder / "train").glob("*.png")):
        shutil.copyfile(path, pictures / path.name)
        mask = folder / "train" / f"{path.stem}.npy"
        (labels / f"{path.stem}.txt").write_text(label(np.load(mask)) if mask.exists() else "", encoding="ascii")
    config = folder / "yolo.yaml"
    config.write_text(f"path: {folder / 'yolo'}\ntrain: images\nval: images\nnames: {{0: defect}}\n", encoding="utf-8")
    height, width = _size(folder)
    model = YOLO("yolo11n-seg.yaml")
    model.train(
        data=str(config), epochs=epochs, imgsz=max(height, width), rect=True, batch=BATCH, seed=SEED, device="cpu",
        workers=0, pretrained=False, amp=False, plots=False, val=False, project=str(folder / "runs"), exist_ok=True,
    )  # fmt: skip
    shutil.copyfile(Path(model.trainer.last), folder / PT)
    YOLO(folder / PT).export(format="openvino", imgsz=(height, width))


def _size(folder: Path) -> tuple[int, int]:
    height, width = (folder / "size.txt").read_text(encoding="ascii").split("x")
    return int(height), int(width)


def open_peer(wanted: Mapping[str, Any]) -> tuple[Judge, Mapping[str, str]]:
    # Its OpenVINO has no setting for threads, but takes no more than there are cores.
    os.sched_setaffinity(0, wanted["cores"])
    torch.set_num_threads(wanted["threads"])
    from ultralytics import YOLO

    use_its_own_nms()
    model, size_hw = YOLO(wanted["model"], task="segment"), tuple(wanted["size_hw"])
    # Average precision needs the score of every picture; a line would ask for what reaches the threshold alone.
    least = max(0.001, wanted["threshold"] or 0.0)

    def judge(picture: Picture) -> tuple[float, float]:
        colour = picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
        found = model.predict(colour, imgsz=size_hw, conf=least, device="cpu", verbose=False)[0]
        score = float(found.boxes.conf.max()) if len(found.boxes) else 0.0
        return score, found.speed["inference"]

    height, width = size_hw
    judge(np.zeros((height, width, 3), np.uint8))  # it loads at the first call
    return judge, {"precision": "its own choice" if wanted["model"].endswith(OPENVINO) else "fp32"}


if __name__ == "__main__":
    if len(sys.argv) == 3:
        start = time.monotonic()
        train(Path(sys.argv[1]), int(sys.argv[2]))
        sys.stdout.write(f"trained in {time.monotonic() - start:.0f} s\n")
    else:
        serve(open_peer, "ultralytics", "torch", "openvino", "numpy")
