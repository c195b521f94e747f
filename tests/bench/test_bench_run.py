"""A whole bench on a tiny network in every check: it fails on a wrong shape or a missing field, never on time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from segdec_edge.bench.forms import Form, Wish, forms_of
from segdec_edge.bench.predict import boards
from segdec_edge.bench.record import BenchRecord, Line, read_record
from segdec_edge.bench.run import Job, Progress, made_pictures, run_bench
from segdec_edge.bench.stages import STAGES, Trial, require_room, so_far, try_form
from segdec_edge.bench.throughput import Crew, crews_of, window
from segdec_edge.bundle import Bundle
from segdec_edge.errors import BackendError, ConfigError
from segdec_edge.types import Pixels, Prediction
from tests.deploy.made_bundles import SPEC, made_bundle
from tests.fakes import FakeBackend

BATCHES, ROUNDS, SITTINGS, CALLS = (1, 2), 6, 2, 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return made_bundle(tmp_path_factory.mktemp("benched"))


def reference_key_of(line: Line, record: BenchRecord) -> Line:
    return next(one for one in record.lines if line.ratio is None or one.key == line.ratio.over)


@dataclass
class Phases(Progress):
    """Counts that each phase has as many steps as it said."""

    def __post_init__(self) -> None:
        self.left: dict[str, int] = {}
        self.now = ""

    def phase(self, words: str, steps: int) -> None:
        self.now = words
        self.left[words] = steps

    def step(self) -> None:
        self.left[self.now] -= 1


@dataclass
class Halves:
    """A peer from elsewhere: it says 0.5 to everything."""

    closed: int = 0

    def infer(self, pixels: Pixels) -> Prediction:
        return Prediction(np.full(len(pixels), 0.5, np.float32), np.zeros((len(pixels), 16, 8), np.float32))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(scope="module")
def smoke(bundle: Bundle) -> tuple[BenchRecord, Phases]:
    peer = Form("halves", "elsewhere", replace(bundle.spec, sha256="e" * 64), 7, lambda threads: Halves())
    job = Job(
        Wish((bundle.path.with_name("feature.pt"), bundle.path), backends=("torch", "onnxruntime", "tensorrt")),
        batches=BATCHES,
        data=SPEC,
        rounds=ROUNDS,
        sittings=SITTINGS,
        calls=CALLS,
        threads=1,
        window_s=0.01,
    )
    phases = Phases()
    return run_bench(job, (peer,), phases), phases


def test_every_form_has_a_line_at_every_batch(smoke: tuple[BenchRecord, Phases]) -> None:
    record, _ = smoke
    forms = ("feature torch", "feature onnxruntime", "halves elsewhere")
    assert [line.key for line in record.lines] == [f"{form} b{batch}" for form in forms for batch in BATCHES]
    assert [(one.name, one.backend) for one in record.not_run] == [("feature", "tensorrt")]
    assert "segdec build" in record.not_run[0].reason


def test_every_line_has_its_figures(smoke: tuple[BenchRecord, Phases], bundle: Bundle) -> None:
    record, _ = smoke
    for line in record.lines:
        assert set(line.stages) == set(STAGES)
        assert line.stages["infer"] == line.latency.p50  # the same calls, in both tables
        assert {name: (len(rows), len(rows[0])) for name, rows in line.samples.items()} == dict.fromkeys(
            ("prepare", "infer", "decide"), (SITTINGS, ROUNDS // SITTINGS * CALLS)
        )
        latency = line.latency
        assert 0 < latency.p50 <= latency.p90 <= latency.p95 <= latency.p99 <= latency.max
        assert latency.count == ROUNDS * CALLS
        assert line.per_picture_ms == latency.p50 / line.batch
        assert line.stages["device"] is None and not line.device_time
        told = line.throughput
        assert told is not None and len(told.samples) == 3
        assert told.pictures_per_s == pytest.approx(sorted(told.samples)[1], abs=1e-3)
        assert all(sorted(other)[1] <= sorted(told.samples)[1] for other in told.others.values())
        assert len(line.cost.load_samples_ms) == SITTINGS
    assert record.lines[0].ratio is None
    assert all(line.ratio is not None and line.ratio.low is not None for line in record.lines[2:])
    ours = record.lines[2]
    assert ours.sha256 == bundle.meta.model.sha256
    assert ours.floor is not None and ours.floor.operations == ours.operations
    assert ours.operations is not None and record.lines[3].operations == 2 * ours.operations > 0
    assert set(ours.board_floors_ms) == set(boards().boards) and min(ours.board_floors_ms.values()) > 0
    assert record.lines[0].operations is None and not record.lines[0].board_floors_ms  # a checkpoint has no graph
    for line in record.lines:
        over = reference_key_of(line, record)
        if line.ratio is not None:  # what the table's own columns give
            assert line.ratio.times_faster == pytest.approx(over.per_picture_ms / line.per_picture_ms)
    assert ours.cost.host_mib is not None and ours.cost.before_mib is not None
    assert ours.cost.host_mib > ours.cost.before_mib > 1
    assert ours.cost.first_verdict_ms is not None and ours.cost.load_ms is not None
    assert ours.cost.first_verdict_ms > ours.cost.load_ms > 0


def test_everything_sits_the_same_exam(smoke: tuple[BenchRecord, Phases]) -> None:
    record, _ = smoke
    torch, ours, peer = (record.lines[place].accuracy for place in (0, 2, 4))
    assert torch is not None and ours is not None and peer is not None
    assert (torch.ap, torch.fp, torch.fn) == (ours.ap, ours.fp, ours.fn)
    assert torch.pictures == peer.pictures == 18
    assert torch.verdicts_changed is None
    assert (ours.over, ours.verdicts_changed) == ("feature torch b1", 0) and (ours.scores_apart or 0) < 1e-3
    assert peer.verdicts_changed is not None and peer.verdicts_changed > 0
    assert peer.fn == 0 and peer.fp == 18 - round((peer.ap or 0) * 18)  # all rejected; their AP is the prevalence


def test_the_record_says_under_which_conditions(smoke: tuple[BenchRecord, Phases]) -> None:
    record, phases = smoke
    assert record.settings.data == SPEC and record.settings.pictures.startswith("8 test pictures")
    assert record.before.when <= record.after.when
    assert set(record.ceilings) == {"cpu"}
    ours = record.ceilings["cpu"]
    assert ours.ops_per_s["int8"] >= ours.ops_per_s["fp32"] > 1e8
    assert ours.bytes_per_s is not None and ours.bytes_per_s > 1e7
    assert (record.settings.untimed, record.settings.calls) == (1, CALLS)
    assert len(record.order) == ROUNDS
    assert all(sorted(drawn) == sorted(line.key for line in record.lines) for drawn in record.order)
    assert set(phases.left.values()) == {0}


def test_the_command_writes_all_it_was_asked_for(bundle: Bundle, tmp_path: Path) -> None:
    def bench(*more: str) -> subprocess.CompletedProcess[str]:
        words = ["bench", str(bundle.path), "--backends", "onnxruntime", "--rounds", "12"]
        code = "from segdec_edge.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *words, "--seconds", "0", "--no-peaks", *more],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
        )

    done = bench("--json", "r.json", "--html", "r.html", "--markdown", "r.md")
    assert done.returncode == 0, done.stderr
    assert "feature  onnxruntime" in done.stdout and "\nthroughput" not in done.stdout  # none was asked for
    assert read_record(tmp_path / "r.json").lines[0].throughput is None
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "r.md").read_text().startswith("| form |")
    values = json.loads((tmp_path / "r.json").read_text())
    values["lines"][0]["samples"]["infer"] = [[1e-9, 1e-9]] * 6  # as if it had been no work at all
    (tmp_path / "r.json").write_text(json.dumps(values))
    again = bench("--baseline", "r.json")
    assert again.returncode == 1, again.stdout + again.stderr
    assert "SLOWER" in again.stdout
    other = bench("--baseline", "r.json", "--threads", "1")
    assert other.returncode == 1 and "other --threads (1, before None)" in other.stderr and "trying" not in other.stdout
    for words, told in (
        (("--json", "r.json"), "is the baseline"),
        (("--sittings", "1"), "1 sitting in one of the two runs"),
        (("--tolerance", "inf"), "--tolerance inf, wanted percent"),
    ):
        odd = bench("--baseline", "r.json", *words)
        assert odd.returncode == 1 and told in odd.stderr and "trying" not in odd.stdout, odd.stdout + odd.stderr
    refused = bench("--json", "none/r.json")
    assert refused.returncode == 1 and "none/r.json: cannot be written" in refused.stderr
    assert "trying" not in refused.stdout  # an hour of timing is not thrown away


def test_what_is_not_asked_for_or_not_possible_is_told(bundle: Bundle) -> None:
    checkpoint = bundle.path.with_name("feature.pt")
    found = forms_of(Wish((bundle.path, checkpoint), precisions=("int8",)))
    assert found.forms == []
    assert {one.reason for one in found.not_run if one.backend == "onnxruntime"} == {"is fp32, asked for int8"}
    sized = forms_of(Wish((bundle.path, checkpoint), sizes=((256, 64),)))
    assert [form.key for form in sized.forms] == ["feature@256x64 torch"]
    assert "segdec export --size" in sized.not_run[0].reason
    only = forms_of(Wish((checkpoint,), backends=("openvino",)))
    assert "runs on torch alone" in only.not_run[0].reason
    with pytest.raises(ConfigError, match="--backends fast"):
        forms_of(Wish((bundle.path,), backends=("fast",)))
    with pytest.raises(ConfigError, match="--precisions fp99: unknown, wanted all or some of fp32, fp16, int8, mixed"):
        forms_of(Wish((bundle.path,), precisions=("int8", "fp99")))
    with pytest.raises(ConfigError, match="given twice"):
        forms_of(Wish((bundle.path, bundle.path)))
    with pytest.raises(ConfigError, match="nothing to bench runs here"):
        run_bench(Job(Wish((bundle.path,), precisions=("int8",)), peaks=False))


@pytest.mark.parametrize("settings", [{"rounds": 2, "sittings": 3}, {"batches": (0,)}, {"batches": ()}, {"calls": 0}])
def test_a_job_that_cannot_be_done_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Job(Wish(()), **settings)  # type: ignore[arg-type]


def test_two_of_one_name_are_told_apart_by_their_folders(bundle: Bundle, tmp_path: Path) -> None:
    other = made_bundle(tmp_path, split=False)
    names = {form.name for form in forms_of(Wish((bundle.path, other.path))).forms}
    assert names == {f"{bundle.path.parent.name}/feature", f"{tmp_path.name}/feature"}


def test_a_trial_that_fails_takes_nothing_with_it(bundle: Bundle, tmp_path: Path) -> None:
    form = forms_of(Wish((bundle.path,), backends=("onnxruntime",))).forms[0]
    assert form.source is not None
    np.save(tmp_path / "flat.npy", np.full((128, 64), 7, np.uint8))
    assert "without contrast" in try_form(form, tmp_path / "flat.npy", (1,), 1).refused
    assert "FileNotFoundError" in try_form(form, tmp_path / "none.npy", (1,), 1).refused
    np.save(tmp_path / "part.npy", made_pictures(1, (128, 64), 1)[0])
    trial = try_form(form, tmp_path / "part.npy", (1, 10**12), 1)
    assert not trial.refused and trial.host_mib is not None and list(trial.host_mib) == [1]
    assert trial.refusals == {10**12: f"too little memory for {10**12} pictures at a time. Choose a smaller --batch"}
    gone = replace(form, source=replace(form.source, path=tmp_path / "none.bundle"))
    refused = try_form(gone, tmp_path / "flat.npy", (1,), 1).refused
    assert "does not exist" in refused and str(tmp_path) in refused
    assert gone.told(refused).startswith("none.bundle: does not exist")


def test_a_process_that_dies_at_one_batch_keeps_the_others() -> None:
    told = 'noise\n{"load_ms": 3.0, "host_mib": {"1": 80.5}, "gpu_mib": {}, "refusals": {"2": "too many"}}\n'
    trial = so_far(told, (1, 2, 4), "its process was killed")
    assert (trial.load_ms, trial.host_mib, trial.refused) == (3.0, {1: 80.5}, "")
    assert trial.refusals == {2: "too many", 4: "its process was killed"}
    assert so_far("noise\n", (1,), "its process was killed") == Trial(refused="its process was killed")


def test_forms_that_do_not_fit_into_memory_together_are_refused(bundle: Bundle) -> None:
    forms = forms_of(Wish((bundle.path,), backends=("onnxruntime",))).forms
    trials = {forms[0].key: Trial(host_mib={1: 100.0, 8: 3000.0})}
    require_room(forms, trials, 3.0)
    require_room(forms, trials, None)
    with pytest.raises(BackendError, match=r"2\.9 GiB, 2\.5 are free"):
        require_room(forms, trials, 2.5)


def test_each_worker_has_a_backend_of_its_own_and_closes_it(bundle: Bundle) -> None:
    opened: list[FakeBackend] = []

    def open_one(threads: int | None) -> FakeBackend:
        opened.append(FakeBackend(lambda picture: 0.5, bundle.spec))
        return opened[-1]

    form = Form("fake", "fake", bundle.spec, 1, open_one)
    pixels = np.zeros((2, 128, 64, 1), np.uint8)
    found = window(form, pixels, 0.01, Crew(2, None), None)
    assert found.pictures_per_s > 0 and found.joules_per_picture is None
    assert [one.closed for one in opened] == [1, 1]
    assert all(len(one.calls) >= 4 and set(one.calls) == {2} for one in opened)


def test_a_worker_that_fails_is_heard_and_all_are_closed(bundle: Bundle) -> None:
    opened: list[FakeBackend] = []

    def judge(picture: Pixels) -> float:
        raise BackendError("out of memory")

    def open_one(threads: int | None) -> FakeBackend:
        opened.append(FakeBackend(judge, bundle.spec))
        return opened[-1]

    form = Form("fake", "fake", bundle.spec, 1, open_one)
    with pytest.raises(BackendError, match="out of memory"):
        window(form, np.zeros((1, 128, 64, 1), np.uint8), 0.01, Crew(2, None), None)
    assert [one.closed for one in opened] == [1, 1]


def test_cores_are_shared_by_the_workers(bundle: Bundle) -> None:
    form = Form("a", "onnxruntime", bundle.spec, 1, lambda threads: Halves())
    assert crews_of(form, 8, None) == (Crew(1, None), Crew(2, 4))
    assert crews_of(form, 8, 3) == (Crew(1, 3), Crew(2, 3))
    assert crews_of(form, 1, None) == (Crew(1, None),)
    assert crews_of(replace(form, backend="tensorrt/sm87-fp16"), 8, None) == (Crew(1, None),)


def test_made_pictures_have_contrast() -> None:
    for channels, shape in ((1, (64, 128)), (3, (64, 128, 3))):
        pictures = made_pictures(2, (64, 128), channels)
        assert all(one.shape == shape and one.std() > 5 for one in pictures)
