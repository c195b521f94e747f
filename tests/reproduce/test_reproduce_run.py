"""A table from spec to Markdown on small parts: real trainings, interrupted and side by side."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from segdec_edge.errors import ConfigError, DataError, TrainingError
from segdec_edge.reproduce.execute import how_many_fit, job_from_json, job_to_json, run_all
from segdec_edge.reproduce.paper import open_table
from segdec_edge.reproduce.plan import plan
from segdec_edge.reproduce.run import RESULTS, TABLE, Asked, reproduce_table
from segdec_edge.reproduce.summary import summarise, to_markdown
from segdec_edge.training.progress import TerminalObserver
from segdec_edge.training.run import EpochRecord
from tests.training.made_parts import write_parts

SMALL = {
    "size_hw": [64, 128], "width": 0.25, "epochs": 2, "precision": "fp32", "device": "cpu", "tensorboard": False,
    "test": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts"), good=14, defective=8)


def asked(parts: Path, output: Path, **changes: object) -> Asked:
    values: dict[str, object] = {
        "table": "V", "data": f"folder:{parts}", "output": output, "rows": ("none", "all"), "variants": ("ours",),
        "folds": None, "seeds": (1,), "changes": SMALL,
    }  # fmt: skip
    return Asked(**(values | changes))  # type: ignore[arg-type]


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


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
    assert f"{100 * ours['evaluation']['average_precision']:.2f}" in markdown.splitlines()[-1]
    assert len(list(tmp_path.rglob("report.html"))) == 2


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
        run_all(jobs, tmp_path, lambda job: Watching(job.row, stop_at), told.append, 1)
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


def test_a_summary_alone_trains_nothing_and_says_what_is_missing(parts: Path, tmp_path: Path) -> None:
    wanted = asked(parts, tmp_path, rows=("all",), seeds=(1, 2))
    reproduce_table(replace(wanted, seeds=(1,)), quiet(), 1)
    markdown = reproduce_table(wanted, quiet(), None)
    assert "without seed 2: not finished" in markdown


def test_a_damaged_result_is_named(parts: Path, tmp_path: Path) -> None:
    jobs = plan(open_table("V", "folder"), f"folder:{parts}", rows=["all"], changes=SMALL)
    folder = tmp_path / jobs[0].folder
    folder.mkdir(parents=True)
    (folder / "result-ours.json").write_text("{}")
    with pytest.raises(DataError, match=r"result-ours.json: not a result"):
        summarise(open_table("V", "folder"), jobs, tmp_path)


def test_folds_are_averaged_errors_summed_and_seeds_spread(tmp_path: Path) -> None:
    table = open_table("II", "kolektor")
    jobs = plan(table, "kolektor:x", rows=["end-to-end-10"], seeds=[1, 2, 3])
    figures = {(1, 0): (0.9, 1, 0), (1, 1): (1.0, 0, 2), (1, 2): (0.8, 0, 0), (2, 0): (1.0, 0, 0), (2, 1): (1.0, 1, 0)}
    figures |= {(2, 2): (1.0, 0, 0), (3, 0): (0.5, 9, 9)}
    for job in jobs:
        if (job.seed, job.fold) in figures:
            ap, fp, fn = figures[job.seed, job.fold]
            point = {"confusion": {"tp": 5, "fp": fp, "fn": fn, "tn": 7, "tpr": 1.0}}
            path = tmp_path / job.folder / "result-ours.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"evaluation": {"average_precision": ap, "best_f": point, "given": point}}))
    (cell,) = summarise(table, jobs, tmp_path)
    assert cell.average_precision == pytest.approx(95.0)
    assert cell.spread == pytest.approx(7.0710678)
    assert cell.best_f == (1.0, 1.0)
    assert (cell.seeds, cell.incomplete, cell.folds) == ((1, 2), (3,), 3)
    last = to_markdown(table, [cell]).splitlines()[-1]
    assert last.startswith(
        "| end to end, 10 items | 99.31 |  | 95.00 ± 7.07 (2 seeds; without seed 3: not finished) | 1+1"
    )


def test_a_cell_of_fewer_folds_than_the_paper_says_so(tmp_path: Path) -> None:
    table = open_table("II", "kolektor")
    jobs = plan(table, "kolektor:x", rows=["end-to-end-33"], folds=[1])
    path = tmp_path / jobs[0].folder / "result-ours.json"
    path.parent.mkdir(parents=True)
    point = {"confusion": {"tp": 5, "fp": 0, "fn": 0, "tn": 7}}
    path.write_text(json.dumps({"evaluation": {"average_precision": 1.0, "best_f": point, "given": point}}))
    assert "| 100.00 (1 of 3 folds) | 0+0 | 0+0 |" in to_markdown(table, summarise(table, jobs, tmp_path))


def test_a_job_survives_its_file(tmp_path: Path) -> None:
    for job in plan(open_table("II", "kolektor"), "kolektor:x", variants=["ours", "improved"]):
        assert job_from_json(json.loads(json.dumps(job_to_json(job)))) == job


def test_as_many_trainings_as_fit_share_a_gpu() -> None:
    gib = 2**30
    assert how_many_fit(100 * gib, 20 * gib, 9) == 4
    assert how_many_fit(100 * gib, 20 * gib, 2) == 2
    assert how_many_fit(5 * gib, 20 * gib, 9) == 1
    assert how_many_fit(0, 0, 9) == 1
