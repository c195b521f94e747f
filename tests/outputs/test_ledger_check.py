"""segdec ledger verify and stats: what is missing, doubled or damaged is found, and nothing else is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from segdec_edge.cli import app
from segdec_edge.outputs.ledger import FREE_RUNNING, Ledger
from segdec_edge.outputs.ledger_check import Gap, Sequence, check_ledger
from segdec_edge.outputs.ledger_read import Selection
from segdec_edge.outputs.ledger_stats import figures
from segdec_edge.types import Label, Verdict

Make = Callable[..., Verdict]
DAY_NS = 86_400 * 10**9
NOON_NS = 1_760_000_400 * 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def record(path: Path, make_verdict: Make, run: str, camera: str, numbers: Iterable[int], **changes: object) -> None:
    with closing(Ledger(path, run)) as ledger:
        facts = {"captured_ns": NOON_NS, "camera": camera} | changes
        ledger.write_all([make_verdict(n, part_id=f"{run}-{camera}-{n}", **facts) for n in numbers])


def test_whole_ledger(path: Path, make_verdict: Make) -> None:
    record(path, make_verdict, "one", "left", [0, 2, 1, 4, 3])  # parts may overtake each other
    record(path, make_verdict, "one", "right", range(3))
    record(path, make_verdict, "two", "left", range(4))
    check = check_ledger(path)
    assert check.is_whole
    assert (check.parts, check.runs, check.gaps, check.clock, check.unset) == (12, 2, (), (), 0)


def test_every_gap_is_named(path: Path, make_verdict: Make) -> None:
    record(path, make_verdict, "one", "left", [0, 1, 4, 2, 9])
    record(path, make_verdict, "one", "right", [1, 2])
    check = check_ledger(path)
    assert set(check.gaps) == {Gap("one", "left", 3, 3), Gap("one", "left", 5, 8), Gap("one", "right", 0, 0)}
    assert check.missing == 6
    assert not check.is_whole


def test_trigger_with_two_verdicts(path: Path, make_verdict: Make) -> None:
    record(path, make_verdict, "one", "left", range(5))
    with closing(Ledger(path, "one")) as ledger:
        ledger.write(make_verdict(3, part_id="again", camera="left", captured_ns=NOON_NS))
    assert check_ledger(path).repeated == ("again",)
    assert not check_ledger(path).is_whole


def test_free_running_camera_may_leave_pictures_out(path: Path, make_verdict: Make) -> None:
    record(path, make_verdict, "one", "left", [0, 5, 6])
    with closing(Ledger(path, "one")) as ledger:
        ledger.event(FREE_RUNNING, "newest picture only", "left")
    assert check_ledger(path).is_whole
    assert check_ledger(path).not_judged == 4
    record(path, make_verdict, "two", "left", [0, 5])  # another run is another matter
    assert check_ledger(path).missing == 4


def test_clock_that_jumps_is_told_and_no_loss(path: Path, make_verdict: Make) -> None:
    record(path, make_verdict, "one", "left", [0])
    record(path, make_verdict, "one", "left", [1], captured_ns=NOON_NS - DAY_NS)
    record(path, make_verdict, "two", "left", [0, 1], captured_ns=5 * 10**9)  # 1970: a board without a battery
    check = check_ledger(path)
    assert check.is_whole
    assert check.clock == ("part one-left-1: the clock went back by 86400.0 s",)
    assert check.unset == 2


def test_damage_inside_is_found(path: Path, make_verdict: Make) -> None:
    record(path, make_verdict, "one", "left", range(500))
    with closing(sqlite3.connect(path)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'parts_by_run'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek(page * size - 5)  # its first cell: the run, and two bytes that name the row
        file.write(b"z")
    assert check_ledger(path).damage
    assert CliRunner().invoke(app, ["ledger", "verify", str(path)]).exit_code == 1


@pytest.mark.parametrize("seed", range(20))
def test_sequence_against_a_set(seed: int) -> None:
    random = np.random.default_rng(seed)
    sequence, seen = Sequence(), set[int]()
    for number in random.integers(0, 60, 50).tolist():
        assert sequence.add(number) == (number not in seen)
        seen.add(number)
        missing = [n for first, last in sequence.gaps for n in range(first, last + 1)]
        assert missing == sorted(set(range(max(seen))) - seen)


def test_verify_exits_by_what_it_found(path: Path, make_verdict: Make) -> None:
    record(path, make_verdict, "one", "left", [0, 1])
    whole = CliRunner().invoke(app, ["ledger", "verify", str(path)])
    assert whole.exit_code == 0
    assert "whole: every trigger has one verdict" in whole.stdout
    record(path, make_verdict, "one", "left", [4])
    broken = CliRunner().invoke(app, ["ledger", "verify", str(path)])
    assert broken.exit_code == 1
    assert "run one, camera left: no verdict for trigger 2 to 3" in broken.stdout
    assert "INCOMPLETE: 2 triggers without a verdict" in broken.stdout


def test_figures(path: Path, make_verdict: Make) -> None:
    latencies = np.random.default_rng(0).uniform(1, 50, 200).astype(np.float32)
    with closing(Ledger(path, "one")) as ledger:
        for n, latency in enumerate(latencies.tolist()):
            label = Label.UNKNOWN if n % 20 == 0 else Label.DEFECT if n % 10 == 1 else Label.OK
            ledger.write(
                make_verdict(
                    n,
                    label,
                    camera=("left", "right")[n % 2],
                    recipe="lids",
                    score=None if label is Label.UNKNOWN else 0.3,
                    reason=f"frame {n} was cut",
                    latency_ms=9999.0 if label is Label.UNKNOWN else latency,
                    captured_ns=NOON_NS + (n // 100) * 3600 * 10**9,
                    review=n % 50 == 3,
                )
            )
        ledger.event("alarm", "x")
        ledger.event("alarm", "y")
    found = figures(path)
    assert (found.parts, found.runs, found.review) == (200, 1, 4)
    assert found.verdicts == {"OK": 170, "DEFECT": 20, "UNKNOWN": 10}
    assert found.by_camera["right"] == {"OK": 80, "DEFECT": 20, "UNKNOWN": 0}
    assert found.by_recipe == {"lids": found.verdicts}
    assert [sum(counted.values()) for counted in found.by_hour.values()] == [100, 100]
    assert next(iter(found.by_hour)) == "2025-10-09T09:00Z"
    assert found.reasons == {"frame # was cut": 10}
    assert found.events == {"alarm": 2}
    judged = np.sort(np.delete(latencies, range(0, 200, 20)))
    assert found.latency_ms["max"] == pytest.approx(judged[-1], abs=1e-3)
    assert found.latency_ms["p50"] == pytest.approx(judged[94], abs=1e-3)
    assert figures(path, Selection(camera="left", label=Label.OK)).parts == 90
    assert figures(path, Selection(run_id="none")).latency_ms == {}


def test_stats_in_words_and_for_a_program(path: Path, make_verdict: Make) -> None:
    record(path, make_verdict, "one", "left", [0, 2])
    words = CliRunner().invoke(app, ["ledger", "stats", str(path)])
    assert words.exit_code == 0
    assert "2 parts in 1 runs: OK 0, DEFECT 2, UNKNOWN 0" in words.stdout
    assert "1 triggers without a verdict" in words.stdout
    program = CliRunner().invoke(app, ["ledger", "stats", str(path), "--json", "--label", "ok"])
    assert '"parts": 0' in program.stdout
    assert '"first": 1' in program.stdout


def test_export_command(path: Path, tmp_path: Path, make_verdict: Make) -> None:
    record(path, make_verdict, "one", "left", range(3))
    out = tmp_path / "parts.csv"
    done = CliRunner().invoke(
        app, ["ledger", "export", str(path), "-o", str(out), "--since", "2025-10-09T09:00:00Z", "--until", "2025-10-10"]
    )
    assert done.exit_code == 0
    assert len(out.read_text().splitlines()) == 4
    done = CliRunner().invoke(app, ["ledger", "export", str(path), "-o", str(out), "--after", "1"])
    assert (done.exit_code, len(out.read_text().splitlines())) == (0, 3)
    for wrong in (["--since", "yesterday"], ["--label", "GOOD"]):
        failed = CliRunner().invoke(app, ["ledger", "export", str(path), "-o", str(out), *wrong])
        assert "Change it" in str(failed.exception)
