from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

HEAVY = (
    "torch",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt_rtx",
    "pycuda",
    "sklearn",
    "scipy",
    "matplotlib",
    "cv2",
)


def segdec(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from segdec_edge.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = f"import sys, segdec_edge.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_station_loads_no_training_side() -> None:
    training_side = ("torch", "scipy", "sklearn", "matplotlib", "onnx")
    code = f"import sys, segdec_edge.station.run; print([name for name in {training_side!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_packages() -> None:
    from segdec_edge import __version__

    assert segdec("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "check", "folder:/nowhere"], "/nowhere"),
        (["data", "check", "nonsense"], "names no data set"),
        (["import-checkpoint", "none.pth", "-o", "x.pt"], "none.pth: no such checkpoint"),
        (["import-checkpoint", "none.pth", "-o", "x.pt", "--fold", "0"], "belong to --data"),
        (["build", "none.bundle"], "none.bundle: does not exist"),
        (["export-checkpoint", "none.pt", "-o", "x.pth"], "none.pt: no such checkpoint"),
        (["train", "-o", "run"], "no data set given"),
        (["train", "-o", "run", "missing.toml"], "missing.toml: cannot be read"),
        (["train", "-o", "run", "--data", "synthetic:n=4", "--set", "rote=3"], "Did you mean rate?"),
        (["train", "-o", "run", "--data", "synthetic:n=4", "--set", "rate"], "not valid TOML"),
        (["train", "-o", "run", "--data", "synthetic:n=4", "--preset", "kolektr"], "preset 'kolektr', wanted"),
        (["train", "-o", "run", "--data", "synthetic:n=4", "--size", "700x256"], "704x256"),
        (["evaluate", "missing.pt"], "no such checkpoint"),
        (["evaluate", "missing.bundle"], "missing.bundle"),
        (["export", "missing.pt", "-o", "a.bundle"], "no such checkpoint"),
        (["export", "missing.pt", "-o", "none/a.bundle"], "none/a.bundle: cannot be written, there is no folder none"),
        (["threshold", "missing.bundle", "0.5", "--why", "x"], "missing.bundle: does not exist"),
        (["run", "missing.toml"], "missing.toml: cannot be read"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_1(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = segdec(*arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_every_mistake_in_a_settings_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "train.toml").write_text('data = "synthetic:n=8"\nepochs = "many"\nratte = 0.1\nvalidation = 2\n')
    done = segdec("train", "train.toml", "-o", "run", cwd=tmp_path)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 3
    assert {word for line in lines for word in ("epochs", "ratte", "validation") if word in line} == {
        "epochs",
        "ratte",
        "validation",
    }
    assert not (tmp_path / "run").exists()


def test_data_check_exits_1_with_a_line_per_finding(tmp_path: Path) -> None:
    for name in ("good", "defect"):
        (tmp_path / name).mkdir()
        for index in range(3):
            noise = np.random.default_rng([index, len(name)]).integers(0, 255, (64, 128), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / name / f"{name}{index}.png"), noise)
    assert segdec("data", "check", f"folder:{tmp_path}").returncode == 0
    broken = tmp_path / "good" / "good0.png"
    broken.write_bytes(broken.read_bytes()[:500])
    done = segdec("data", "check", f"folder:{tmp_path}")
    assert done.returncode == 1
    assert sum("good0" in line for line in done.stdout.splitlines()) == 1


def test_data_check_tells_what_is_wrong_beside_doubled_names(tmp_path: Path) -> None:
    for name in ("good", "defect"):
        (tmp_path / name).mkdir()
        for index in range(2):
            noise = np.random.default_rng([index, len(name)]).integers(0, 255, (64, 128), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / name / f"{name}{index}.png"), noise)
    cv2.imwrite(str(tmp_path / "good" / "good1.bmp"), noise // 2)
    broken = tmp_path / "defect" / "defect0.png"
    broken.write_bytes(broken.read_bytes()[:500])
    done = segdec("data", "check", f"folder:{tmp_path}")
    assert done.returncode == 1
    findings = done.stdout.partition("findings ")[2].splitlines()
    assert len(findings) == 3  # how many, and one line each
    assert "good1.bmp has the same name" in findings[1]  # the first by name is taken
    assert "defect0.png" in findings[2]


def test_a_folder_of_somebody_else_is_no_place_for_a_demo(tmp_path: Path) -> None:
    (tmp_path / "station.toml").write_text("# my line\n")
    done = segdec("demo", "-o", tmp_path)
    assert done.returncode == 1
    assert "holds station.toml, which is not of an earlier demo" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["station.toml"]
    assert (tmp_path / "station.toml").read_text() == "# my line\n"
    (tmp_path / "station.toml").unlink()
    (tmp_path / "thesis.tex").write_text("")
    assert "holds thesis.tex" in segdec("demo", "-o", tmp_path).stderr


def test_data_split_writes_lists_that_a_camera_can_replay(tmp_path: Path) -> None:
    done = segdec("data", "split", "synthetic:n=10,size=64x128", "-o", tmp_path / "lists", "--test", "0.4")
    assert done.returncode == 0, done.stderr
    names = [len((tmp_path / "lists" / f"{one}.txt").read_text().splitlines()) for one in ("train", "test")]
    assert names == [6, 4]
    first = Path((tmp_path / "lists" / "test.txt").read_text().splitlines()[0])
    assert cv2.imread(str(first), cv2.IMREAD_UNCHANGED).shape == (64, 128)


def test_doctor_tells_about_this_machine() -> None:
    done = segdec("doctor")
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in done.stdout
    assert "openvino" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data", "check", "folder:~nobody-of-this-name/x"], "no such folder"),
        (["data", "check", "synthetic:n=99999999999999999999"], "n from 1 to 1000000"),
        (["data", "split", "synthetic:n=9,size=128x128", "-o", "s", "--seed", "-1"], "seed -1, wanted 0 or more"),
        (
            ["data", "split", "synthetic:n=9,size=128x128", "-o", "s", "--test", "nan"],
            "shares validation 0.0 and test nan",
        ),
        (
            ["data", "split", "kolektor:x", "-o", "s", "--fold", "0", "--validation", "0.5", "--test", "0.9"],
            "--validation 0.5 and --test 0.9 with a published split, which says so itself. Leave",
        ),
        (["train", "--data", "synthetic:n=9", "-o", "t", "--seed", "99999999999999999999999"], "seed"),
        (
            ["train", "--data", "synthetic:n=20,size=128x128", "--size", "128x128", "-o", "t", "--device", "meta"],
            "device meta",
        ),
    ],
)
def test_strange_values_end_in_one_line(tmp_path: Path, words: list[str], told: str) -> None:
    done = segdec(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert told in " ".join(done.stderr.split())


def test_weights_go_out_to_the_authors_format_and_come_back(tmp_path: Path) -> None:
    import torch

    from segdec_edge.model.segdecnet import SegDecNet

    torch.save({"state_dict": SegDecNet().state_dict()}, tmp_path / "authors.pth")
    done = segdec("import-checkpoint", "authors.pth", "-o", "ours.pt", "--size", "128x64", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ours.pt: 1 channel(s), width 1" in done.stdout
    done = segdec("export-checkpoint", "ours.pt", "-o", "back.pth", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "41 tensors" in done.stdout
