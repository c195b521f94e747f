"""A table from spec to Markdown on small parts: real trainings, interrupted and side by side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from segdec_edge.errors import ConfigError, TrainingError
from segdec_edge.model.checkpoint import Checkpoint, save_checkpoint
from segdec_edge.model.segdecnet import SegDecNet
from segdec_edge.reproduce.execute import find_training, how_many_fit, job_from_json, job_to_json, run_all
from segdec_edge.reproduce.paper import open_table
from segdec_edge.reproduce.pictures import Lookup
from segdec_edge.reproduce.plan import Job, plan
from segdec_edge.reproduce.run import RESULTS, TABLE, reproduce_table
from segdec_edge.reproduce.summary import summarise
from segdec_edge.training.progress import TerminalObserver
from segdec_edge.training.records import EpochRecord
from tests.reproduce.tables import SMALL, asked, jobs_of, quiet, write_result
from tests.training.made_parts import write_parts


def test_a_table_is_trained_measured_and_told(parts: Path, tmp_path: Path) -> None:
    wanted = asked(parts, tmp_path, rows=("all",), variants=("ours", "averaged"), changes=SMALL | {"epochs": 10})
    markdown = reproduce_table(wanted, quiet(), 1)
    record = json.loads((tmp_path / RESULTS).read_text())
    assert [(one["row"], one["variant"]) for one in record["results"]] == [("all", "ours"), ("all", "averaged")]
    assert record["data"] == f"folder:{parts.name}"
    assert str(parts.parent) not in (tmp_path / RESULTS).read_text()
    ours, averaged = record["results"]
    assert ours["evaluation"]["count"] == averaged["evaluation"]["count"] > 0
    assert ours["evaluation"]["average_precision"] != averaged["evaluation"]["average_precision"] or (
        ours["evaluation"]["given"] != averaged["evaluation"]["given"]
    )
    assert ours["versions"]["torch"]
    assert ours["settings"]["seed"] == 1
    assert "average_epochs" not in ours["settings"]
    assert markdown == (tmp_path / TABLE).read_text()
    assert f"{100 * ours['evaluation']['average_precision']:.2f}" in next(
        line for line in markdown.splitlines() if line.startswith("| + distance weights")
    )
    assert "size_hw = 64x128 (the table's: 512x512); width = 0.25 (the table's: 1.0)" in markdown
    assert "Seeds: 1.\n\nMeasured in fp32 on cpu; segdec-edge " in markdown
    assert "| FP+FN, threshold of training pictures |" in markdown
    assert len(list(tmp_path.rglob("report.html"))) == 2

    (tmp_path / "all/ours+averaged/split-seed1/result-ours.json").unlink()
    console = quiet()
    reproduce_table(replace(wanted, variants=("averaged", "ours", "ours")), console, 1)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 trainings, 0 of them done already" in told
    assert "all/ours+averaged/split-seed1/averaged.pt: finished already" in told
    assert [folder.name for folder in (tmp_path / "all").iterdir()] == ["ours+averaged"]


def test_what_is_done_is_not_done_again_and_what_was_interrupted_goes_on(parts: Path, tmp_path: Path) -> None:
    jobs = plan(open_table("V", "folder"), f"folder:{parts}", rows=["none", "all"], seeds=[1], changes=SMALL)
    trained: list[tuple[str, int]] = []

    class Watching(TerminalObserver):
        def __init__(self, row: str, stop_at: tuple[str, int] | None) -> None:
            super().__init__(2, quiet())
            self.row, self.stop_at = row, stop_at

        def epoch(self, record: EpochRecord, epochs: int) -> None:
            trained.append((self.row, record.epoch))
            if (self.row, record.epoch) == self.stop_at:
                raise KeyboardInterrupt

    def go(stop_at: tuple[str, int] | None) -> list[str]:
        told: list[str] = []
        run_all(jobs, tmp_path, lambda job: Watching(job.row, stop_at), told.append, 1, Lookup())
        return told

    with pytest.raises(KeyboardInterrupt):
        go(("all", 1))
    assert go(None)[0] == "2 trainings, 1 of them done already"
    assert trained == [("none", 1), ("none", 2), ("all", 1), ("all", 2)]
    assert go(None) == ["2 trainings, 2 of them done already"]
    assert len(trained) == 4


def test_results_of_other_settings_are_not_taken_for_these(parts: Path, tmp_path: Path) -> None:
    wanted = asked(parts, tmp_path, rows=("all",))
    reproduce_table(wanted, quiet(), 1)
    with pytest.raises(ConfigError, match=r"was measured with rate = 0\.1 \(now 0\.2\)"):
        reproduce_table(replace(wanted, changes=SMALL | {"rate": 0.2}), quiet(), 1)


def test_a_summary_refuses_results_of_other_data_and_settings(parts: Path, tmp_path: Path) -> None:
    wanted = asked(parts, tmp_path, rows=("all",))
    (job,) = jobs_of(wanted)
    write_result(tmp_path, job)
    before = reproduce_table(wanted, quiet(), None)
    record = (tmp_path / RESULTS).read_text()
    with pytest.raises(ConfigError, match=r"result-ours\.json: was measured with rate = 0\.1 \(now 0\.2\)"):
        reproduce_table(replace(wanted, changes=SMALL | {"rate": 0.2}), quiet(), None)
    with pytest.raises(ConfigError, match=r"was measured with data = "):
        reproduce_table(replace(wanted, data=f"folder:{parts / 'images'}"), quiet(), None)
    assert (tmp_path / RESULTS).read_text() == record
    assert (tmp_path / TABLE).read_text() == before


def test_a_data_set_that_moved_is_the_same_one(parts: Path, tmp_path: Path) -> None:
    wanted = asked(parts, tmp_path, rows=("all",))
    (job,) = jobs_of(replace(wanted, data=f"folder:{tmp_path}/gone/{parts.name}"))
    write_result(tmp_path, job)
    reproduce_table(wanted, quiet(), None)
    assert json.loads((tmp_path / RESULTS).read_text())["results"][0]["settings"]["data"] == f"folder:{parts.name}"
    (tmp_path / "gone" / parts.name).mkdir(parents=True)
    with pytest.raises(ConfigError, match="was measured with data"):
        reproduce_table(wanted, quiet(), None)


def test_results_are_found_however_the_variants_were_spelled(tmp_path: Path) -> None:
    table = open_table("II", "kolektor")
    row = ["end-to-end-33"]
    (both,) = plan(table, "kolektor:x", rows=row, folds=[0], variants=["mirrored", "improved"])
    write_result(tmp_path, both, "mirrored", ap=0.9)
    write_result(tmp_path, both, "improved", ap=0.8)
    (alone,) = plan(table, "kolektor:x", rows=row, folds=[0, 0], variants=["improved"])
    (cell,) = summarise(table, [alone], tmp_path)
    assert cell.average_precision == pytest.approx(80.0)
    told: list[str] = []
    run_all([alone], tmp_path, TerminalObserver, told.append, 1, Lookup())
    assert told == ["1 trainings, 1 of them done already"]


def test_a_training_that_was_begun_is_found_by_its_settings(tmp_path: Path) -> None:
    def only(*variants: str) -> Job:
        table = open_table("II", "kolektor")
        (job,) = plan(table, "kolektor:x", rows=["end-to-end-33"], folds=[0], variants=variants)
        return job

    def begin(job: Job) -> Path:
        (tmp_path / job.folder).mkdir(parents=True)
        facts = {"settings": job.settings.model_dump(mode="json")}
        checkpoint = Checkpoint(SegDecNet(1, 0.0625), (64, 128), epoch=1, facts=facts)
        save_checkpoint(tmp_path / job.folder / "checkpoint.pt", checkpoint)
        return tmp_path / job.folder

    told: list[str] = []
    plain = begin(only("ours"))
    assert find_training(tmp_path, only("ours"), told.append)[1] == plain
    assert not told
    job, folder = find_training(tmp_path, only("averaged"), told.append)
    assert (folder.parent.name, job.settings.average_epochs) == ("averaged", 10)
    assert told == [f"{plain}: averages 0 epochs, wanted 10: trained again in {job.folder}"]
    averaging = begin(only("mirrored", "improved"))
    job, folder = find_training(tmp_path, only("mirrored"), told.append)
    assert (folder, job.settings.average_epochs, job.variants) == (averaging, 10, (("mirrored", "checkpoint.pt"),))


def test_a_result_of_another_file_of_the_training_is_refused(tmp_path: Path) -> None:
    table = open_table("II", "kolektor")
    (job,) = plan(table, "kolektor:x", rows=["end-to-end-33"], folds=[0], variants=["averaged"])
    write_result(tmp_path, job, "averaged", evaluated={"file": "averaged.pt", "average_epochs": 5})
    with pytest.raises(ConfigError, match=r"was measured with average_epochs = 5 \(now 10\)"):
        summarise(table, [job], tmp_path)


def test_trainings_side_by_side_give_what_they_give_alone(parts: Path, tmp_path: Path) -> None:
    wanted = asked(parts, tmp_path / "alone")
    reproduce_table(wanted, quiet(), 1)
    reproduce_table(replace(wanted, output=tmp_path / "beside"), quiet(), 2)
    first, second = (json.loads((tmp_path / name / RESULTS).read_text()) for name in ("alone", "beside"))
    assert len(second["results"]) == 2
    for one, other in zip(first["results"], second["results"], strict=True):
        assert one["evaluation"] == other["evaluation"]


def test_a_run_that_fails_beside_others_is_named_and_the_others_finish(parts: Path, tmp_path: Path) -> None:
    console = quiet()
    wanted = asked(parts, tmp_path, changes=SMALL | {"rate": 1e12}, rows=None)
    with pytest.raises(TrainingError, match=r"trainings failed, first none/ours/split-seed1: see its output.log"):
        reproduce_table(wanted, console, 2)
    assert "training diverged" in (tmp_path / "none/ours/split-seed1/output.log").read_text()
    assert console.file.getvalue().count("started") == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("whom", ["the process", "its group"])
def test_sigterm_ends_the_trainings_beside_too(parts: Path, tmp_path: Path, whom: str) -> None:
    small = [f"--set={name}={value}" for name, value in {"width": 0.25, "epochs": 5000, "tensorboard": "false"}.items()]
    command = [
        sys.executable, "-m", "segdec_edge", "reproduce", "V", "--data", f"folder:{parts}", "-o", str(tmp_path / "out"),
        "--rows", "none,all", "--side-by-side", "2", "--size", "64x128", "--device", "cpu", *small,
    ]  # fmt: skip
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True
        )
    try:
        locks = [tmp_path / f"out/{row}/ours/split-seed1337/training.lock" for row in ("none", "all")]
        wait_until(lambda: process.poll() is not None or all(one.exists() and one.read_text() for one in locks))
        assert process.poll() is None, (tmp_path / "said").read_text()
        workers = [int(one.read_text()) for one in locks]
        wait_until(lambda: bool(list(tmp_path.glob("out/*/ours/*/.segdec_tmp_*"))))  # a checkpoint is being written
        if whom == "the process":
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
        assert not [one for one in workers if Path(f"/proc/{one}").exists()]
        assert not list(tmp_path.glob("out/**/.segdec_tmp_*"))
        assert "Traceback" not in (tmp_path / "said").read_text()
    finally:
        process.kill()
        process.wait()


def wait_until(true: Callable[[], bool], at_most_s: float = 120) -> None:
    end = time.monotonic() + at_most_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_job_survives_its_file(tmp_path: Path) -> None:
    for job in plan(open_table("II", "kolektor"), "kolektor:x", variants=["ours", "improved"]):
        assert job_from_json(json.loads(json.dumps(job_to_json(job)))) == job


def test_as_many_trainings_as_fit_share_a_gpu() -> None:
    gib = 2**30
    assert how_many_fit(100 * gib, 20 * gib, 9) == 4
    assert how_many_fit(100 * gib, 20 * gib, 2) == 2
    assert how_many_fit(5 * gib, 20 * gib, 9) == 1
    assert how_many_fit(0, 0, 9) == 1


def test_other_pixels_and_masks_are_another_training(tmp_path: Path) -> None:
    """Names and labels stay the same: half of a mean would be of other pictures, without a word."""
    parts = write_parts(tmp_path / "parts", good=8, defective=6)
    wanted = asked(parts, tmp_path / "out", rows=("all",), changes=SMALL | {"epochs": 1})
    reproduce_table(wanted, quiet(), 1)
    for place, change in (("masks", lambda pixels: cv2.flip(pixels, 0)), ("images", lambda pixels: 255 - pixels)):
        path = parts / place / "p000.png"
        before = path.read_bytes()
        cv2.imwrite(str(path), change(cv2.imread(str(path), 0)))
        with pytest.raises(ConfigError, match="was measured with other pixels or masks of folder:"):
            reproduce_table(wanted, quiet(), None)
        path.write_bytes(before)
    reproduce_table(wanted, quiet(), None)
    (result,) = json.loads((tmp_path / "out" / RESULTS).read_text())["results"]
    assert result["training_seconds"] > 0


def test_a_training_without_its_pictures_is_not_evaluated_on_others(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", good=8, defective=6)
    wanted = asked(parts, tmp_path / "out", rows=("all",), changes=SMALL | {"epochs": 1})
    reproduce_table(wanted, quiet(), 1)
    folder = tmp_path / "out/all/ours/split-seed1"
    (folder / "result-ours.json").unlink()
    gone = json.loads((folder / "split.json").read_text())["train"][0]
    (parts / "images" / f"{gone}.png").unlink()
    (parts / "masks" / f"{gone}.png").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="the data set changed since it was trained"):
        reproduce_table(wanted, quiet(), 1)
    assert not (folder / "result-ours.json").exists()
