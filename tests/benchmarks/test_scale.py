"""The scale benchmark goes on with its own settings alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
POINTS = {
    f"{axis} {size} {backend}": {"axis": axis, "size": size, "curves": {f"{backend}, ms": [1.0, 1.1]}, "run": 0}
    for backend in ("onnxruntime", "openvino")
    for axis, size in (("resolution", 65536), ("width", 0.25))
}


def scaled(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "scale.py"), "-o", "r.json", "--most-side", "256", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def begun(folder: Path, **more: Any) -> None:
    (folder / "r.json").write_text(json.dumps({"benchmark": "scale", "runs": [{}], "points": POINTS, **more}))


@pytest.mark.parametrize("more", [{}, {"settings": {"width": 0.25}}])
def test_other_settings_than_it_was_begun_with_are_refused(more: dict[str, Any], tmp_path: Path) -> None:
    begun(tmp_path, **more)
    before = (tmp_path / "r.json").read_bytes()
    done = scaled(tmp_path, "--axes", "resolution", "--width", "0.125")
    assert done.returncode == 1 and (tmp_path / "r.json").read_bytes() == before
    assert done.stderr == ("r.json: resolution was measured with another --width (0.25, not 0.125). Give another -o.\n")


def test_the_same_settings_go_on_and_are_kept(tmp_path: Path) -> None:
    begun(tmp_path)
    done = scaled(tmp_path, "--axes", "resolution")
    record = json.loads((tmp_path / "r.json").read_text())
    assert done.returncode == 0 and record["points"] == POINTS
    assert record["settings"]["width"] == 0.25 and record["runs"][-1]["settings"]["width"] == 0.25
