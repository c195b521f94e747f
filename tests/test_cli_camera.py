"""segdec camera, as users call it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.gige import SERIAL, GigeCamera


def segdec(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "segdec_edge", "camera", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_list_show_and_snap(tmp_path: Path) -> None:
    with GigeCamera(own=True):
        listed, shown = segdec("list"), segdec("show", SERIAL)
        snapped = segdec("snap", SERIAL, "-o", str(tmp_path / "one.png"))
        nobody = segdec("show", "nobody")
    assert SERIAL in listed.stdout
    assert "Line0, Software" in shown.stdout
    assert snapped.returncode == 0, snapped.stderr
    assert nobody.returncode == 1
    assert nobody.stderr.startswith("segdec: nobody: no such camera answers, here: ")
    assert len(nobody.stderr.splitlines()) == 1
    picture = cv2.imread(str(tmp_path / "one.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (512, 512)
    assert len(np.unique(picture)) == 1


def test_snap_takes_the_camera_of_a_station(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "part.png"), np.full((24, 40), 70, np.uint8))
    (tmp_path / "station.toml").write_text('[station]\nbundle = "b"\n[camera]\npath = "."\npattern = "part.png"\n')
    taken = segdec("snap", "--config", str(tmp_path / "station.toml"), "-o", str(tmp_path / "snap.png"))
    assert taken.returncode == 0, taken.stderr
    assert cv2.imread(str(tmp_path / "snap.png"), cv2.IMREAD_UNCHANGED).mean() == 70


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["snap", "-o", "snap.jpg"], "ends in .png"),
        (["snap", "nobody", "--config", "station.toml"], "Leave one out"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], told: str) -> None:
    done = segdec(*arguments)
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
