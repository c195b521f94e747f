"""Results as a table: means, spreads, what is missing, damaged or of other pictures. Trains nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from segdec_edge.errors import DataError
from segdec_edge.reproduce.paper import open_table
from segdec_edge.reproduce.plan import plan
from segdec_edge.reproduce.run import reproduce_table
from segdec_edge.reproduce.summary import read_results, summarise
from segdec_edge.reproduce.text import percent, to_markdown
from tests.reproduce.tables import asked, jobs_of, quiet, write_result


def test_a_summary_alone_trains_nothing_and_says_what_is_missing(parts: Path, tmp_path: Path) -> None:
    wanted = asked(parts, tmp_path, rows=("all",), seeds=(1, 2))
    reproduce_table(replace(wanted, seeds=(1,)), quiet(), 1)
    markdown = reproduce_table(wanted, quiet(), None)
    assert "without seed 2: not finished" in markdown


@pytest.mark.parametrize("content", ["{}", '{"row": "all", "evalua', "[1]", '{"evaluation": {}, "settings": {}}'])
def test_a_damaged_result_is_named(parts: Path, tmp_path: Path, content: str) -> None:
    wanted = asked(parts, tmp_path, rows=("all",))
    write_result(tmp_path, jobs_of(wanted)[0]).write_text(content)
    for side_by_side in (None, 1):
        with pytest.raises(DataError, match=r"result-ours\.json: not a result .*Delete it and start again"):
            reproduce_table(wanted, quiet(), side_by_side)


@pytest.mark.parametrize("key", ["versions", "device", "precision", "fold", "positives"])
def test_a_result_that_lacks_a_fact_is_named(parts: Path, tmp_path: Path, key: str) -> None:
    wanted = asked(parts, tmp_path, rows=("all",))
    path = write_result(tmp_path, jobs_of(wanted)[0])
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != key}))
    with pytest.raises(DataError, match=rf"result-ours\.json: not a result \('{key}'\)\. Delete it"):
        reproduce_table(wanted, quiet(), None)


def test_folds_are_averaged_errors_summed_and_seeds_spread(tmp_path: Path) -> None:
    table = open_table("II", "kolektor")
    jobs = plan(table, "kolektor:x", rows=["end-to-end-10"], seeds=[1, 2, 3])
    figures = {(1, 0): (0.9, 1, 0), (1, 1): (1.0, 0, 2), (1, 2): (0.8, 0, 0), (2, 0): (1.0, 0, 0), (2, 1): (1.0, 1, 0)}
    figures |= {(2, 2): (1.0, 0, 0), (3, 0): (0.5, 9, 9)}
    for job in jobs:
        if (job.seed, job.fold) in figures:
            write_result(tmp_path, job, "ours", *figures[job.seed, job.fold])
    (cell,) = summarise(table, jobs, tmp_path)
    assert cell.average_precision == pytest.approx(95.0)
    assert cell.spread == pytest.approx(7.0710678)
    assert cell.best_f == (1.0, 1.0)
    assert (cell.seeds, cell.incomplete, cell.folds) == ((1, 2), (3,), 3)
    told = to_markdown(table, [cell], read_results(jobs, tmp_path)).splitlines()
    assert told[4].startswith(
        "| end to end, 10 items | 99.31 |  | 95.00 ± 7.07 (2 seeds; without seed 3: not finished) | 1+1"
    )
    assert told[6:8] == [
        "| each training | fold | seed | AP | FP+FN, best F | FP+FN, threshold picked before |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    assert told[8:] == [
        f"| end to end, 10 items, ours | {fold} | {seed} | {100 * ap:.2f} | {fp}+{fn} | {fp}+{fn} |"
        for (seed, fold), (ap, fp, fn) in figures.items()
    ]


def test_a_result_of_the_same_settings_counts_in_another_table(tmp_path: Path) -> None:
    (first,) = plan(open_table("II", "kolektor"), "kolektor:x", rows=["end-to-end-33"], folds=[0])
    table = open_table("V", "kolektor")
    jobs = plan(table, "kolektor:x", rows=["all"], folds=[0], seeds=[1337, 1])
    for job in jobs:
        write_result(tmp_path, job, row=first.row)
    results = read_results(jobs, tmp_path)
    assert [one["row"] for one in results] == ["all", "all"]
    told = to_markdown(table, summarise(table, jobs, tmp_path), results)
    assert "| + distance weights, ours | 0 | 1 | 100.00 | 0+0 | 0+0 |" in told


def test_a_cell_of_fewer_folds_than_the_paper_says_so(tmp_path: Path) -> None:
    table = open_table("II", "kolektor")
    jobs = plan(table, "kolektor:x", rows=["end-to-end-33"], folds=[1])
    write_result(tmp_path, jobs[0])
    told = to_markdown(table, summarise(table, jobs, tmp_path), read_results(jobs, tmp_path))
    assert "| 100.00 (1 of 3 folds) | 0+0 | 0+0 |" in told
    assert "each training" not in told


def test_the_threshold_column_says_which_pictures_it_is_of(tmp_path: Path) -> None:
    table = open_table("II", "kolektor")
    (job,) = plan(table, "kolektor:x", rows=["end-to-end-33"], folds=[0])
    point = {"confusion": {"tp": 5, "fp": 1, "fn": 0, "tn": 7}, "source": "best F-measure on the 9 validation pictures"}
    write_result(tmp_path, job, evaluation={"average_precision": 1.0, "best_f": point, "given": point})
    head = to_markdown(table, summarise(table, [job], tmp_path)).splitlines()[2]
    assert head.endswith("| FP+FN, threshold of validation pictures |")


def test_the_classes_of_dagm_are_averaged_and_their_errors_summed(tmp_path: Path) -> None:
    wanted = asked(tmp_path, tmp_path / "out", table="I", data=f"dagm:{tmp_path}", rows=None, changes={})
    for job in plan(open_table("I", "dagm"), wanted.data, seeds=wanted.seeds):
        write_result(wanted.output, job, ap=0.9 if job.fold == 10 else 1.0, fp=1, fn=int(job.fold == 3))
    lines = reproduce_table(wanted, quiet(), None).splitlines()
    assert "| end to end | 100 | 0+0 | 99.00 | 10+1 | 10+1 |" in lines
    assert "| 3 | 100 | 100 | 83.33 | 87.50 |" in lines
    assert "| 10 | 100 | 100 | 100.00 | 87.50 |" in lines

    alone = replace(wanted, data=f"{wanted.data},class=3", output=tmp_path / "alone")
    (job,) = plan(open_table("I", "dagm", one_class=True), alone.data, seeds=alone.seeds)
    write_result(alone.output, job)
    lines = reproduce_table(alone, quiet(), None).splitlines()
    assert "| end to end |  |  | 100.00 | 0+0 | 0+0 |" in lines
    assert any("One class of ten" in line for line in lines)


def test_a_figure_of_other_pictures_is_marked(tmp_path: Path) -> None:
    wanted = asked(tmp_path, tmp_path, table="V", data="severstal:x", rows=("all", "none"), changes={"epochs": 5})
    jobs = plan(open_table("V", "severstal"), wanted.data, rows=wanted.rows, seeds=wanted.seeds, changes=wanted.changes)
    full = {"confusion": {"tp": 999, "fp": 0, "fn": 1, "tn": 1000}, "source": "validation"}
    exact = {"positives": 1000, "negatives": 1000}
    write_result(tmp_path, jobs[0], evaluation={"average_precision": 1.0, "best_f": full, "given": full}, **exact)
    write_result(tmp_path, jobs[1], **exact)
    told = reproduce_table(wanted, quiet(), None)
    assert "| none of the four | 95.9 | 59+102 |" in told
    assert "| + distance weights | 98.74* | 59+40 |" in told
    assert "tested on 5 and 7; the paper trained on 1000 defective and 1000 good, tested on 1000 and 1000." in told
    assert "epochs = 5 (the table's: 50)" in told


@pytest.mark.parametrize(
    ("value", "text"),
    [(100.0, "100.00"), (99.994, "99.99"), (99.9962, "99.996"), (99.99991, "99.9999"), (7.0, "7.00")],
)
def test_nothing_below_a_hundred_is_told_as_a_hundred(value: float, text: str) -> None:
    assert percent(value) == text
