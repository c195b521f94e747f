"""What a table says of folds, classes and variants that are not there yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segdec_edge.reproduce.paper import open_table
from segdec_edge.reproduce.plan import plan
from segdec_edge.reproduce.summary import read_results, summarise
from segdec_edge.reproduce.text import to_markdown
from tests.reproduce.tables import write_result


def test_a_rate_stands_under_its_own_variant(tmp_path: Path) -> None:
    table = open_table("I", "dagm")
    jobs = plan(table, "dagm:x", folds=[1, 2], variants=["text", "ours"])
    write_result(tmp_path, next(job for job in jobs if dict(job.variants).keys() == {"ours"} and job.fold == 1), fp=1)
    lines = to_markdown(table, summarise(table, jobs, tmp_path), read_results(jobs, tmp_path)).splitlines()
    assert "| class | paper TPR | paper TNR | text TPR | text TNR | ours TPR | ours TNR |" in lines
    assert "| 1 | 100 | 100 |  |  |  |  |" in lines  # class 2 is missing: no seed is whole
    write_result(tmp_path, next(job for job in jobs if dict(job.variants).keys() == {"ours"} and job.fold == 2))
    lines = to_markdown(table, summarise(table, jobs, tmp_path), read_results(jobs, tmp_path)).splitlines()
    assert "| 1 | 100 | 100 |  |  | 83.33 | 87.50 |" not in lines
    assert "| 1 | 100 | 100 |  |  | 100.00 | 87.50 |" in lines
    assert "| 3 | 100 | 100 |  |  |  |  |" in lines


def test_one_class_alone_keeps_its_columns(tmp_path: Path) -> None:
    table = open_table("I", "dagm", one_class=True)
    jobs = plan(table, "dagm:x,class=3", variants=["text", "ours"])
    write_result(tmp_path, next(job for job in jobs if dict(job.variants).keys() == {"ours"}))
    lines = to_markdown(table, summarise(table, jobs, tmp_path), read_results(jobs, tmp_path)).splitlines()
    assert "|  |  |  |  |  | 100.00 | 100.00 |" in lines


def test_folds_that_wait_for_others_are_told(tmp_path: Path) -> None:
    table = open_table("II", "kolektor")
    jobs = plan(table, "kolektor:x", rows=["end-to-end-33", "end-to-end-5"], folds=[0, 1])
    write_result(tmp_path, jobs[0], ap=0.9, fp=1)
    lines = to_markdown(table, summarise(table, jobs, tmp_path), read_results(jobs, tmp_path)).splitlines()
    assert "| end to end, 33 items | 100 | 0+0 | not finished: seed 1337 |  |  |" in lines
    assert "| end to end, 5 items | 96.71 |  | not finished: seed 1337 |  |  |" in lines
    assert "| end to end, 33 items, ours | 0 | 1337 | 90.00 | 1+0 | 1+0 |" in lines


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("1", False)])
def test_of_several_processes_the_first_alone_tells_the_table(tmp_path: Path, rank: str, speaks: bool) -> None:
    command = ["reproduce", "V", "--data", f"folder:{tmp_path}/none", "-o", str(tmp_path), "--summary"]
    environment = os.environ | {"RANK": rank, "WORLD_SIZE": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "segdec_edge", *command], capture_output=True, text=True, env=environment, check=True
    )
    assert ("Table V" in done.stdout) == speaks
