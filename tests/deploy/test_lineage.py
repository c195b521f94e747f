"""segdec info: a bundle of any age, whole or damaged, says what it is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from segdec_edge.bundle import Bundle, add_accuracy, digest_of, read_bundle, set_threshold, utc_now
from segdec_edge.deploy.gate import exam_for, marks_of, pass_gate
from segdec_edge.deploy.lineage import bundle_facts, to_json
from segdec_edge.deploy.lineage_text import in_words
from segdec_edge.errors import BundleError
from segdec_edge.runtime.gpu import current_gpu
from segdec_edge.runtime.sidecar import PlanFacts
from tests.deploy.bright_parts import GOOD, bright_bundle, bright_facts, bright_graph, write_parts


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_parts(tmp_path_factory.mktemp("bright") / "parts")


@pytest.fixture(scope="module")
def made(spec: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Exported, brought through the gate, and evaluated on another runtime."""
    folder = tmp_path_factory.mktemp("made")
    exported = bright_bundle(folder / "parts.bundle", spec)
    content = bright_graph({GOOD[0]: 0.3})
    exam = exam_for(exported, backend="onnxruntime")
    facts = bright_facts(content).model_copy(update={"precision": "int8"})
    made, _ = pass_gate(
        exported, folder / "parts-int8.bundle", content, facts, exam, step="quantize", note="5 of 5 layers"
    )
    other = marks_of(made, exam_for(made, backend="openvino")).accuracy
    return add_accuracy(made.path, other)


@pytest.fixture
def bundle(made: Bundle, tmp_path: Path) -> Bundle:
    return read_bundle(shutil.copytree(made.path, tmp_path / made.path.name))


def plan(bundle: Bundle, name: str, content: bytes = b"plan", **facts: Any) -> Path:
    """An engine file with its sidecar, as segdec build leaves them."""
    folder = bundle.path / "engines"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.plan"
    path.write_bytes(content)
    known: dict[str, Any] = {
        "plan_sha256": hashlib.sha256(content).hexdigest(), "plan_bytes": len(content),
        "onnx_sha256": bundle.spec.sha256, "runtime": "tensorrt_rtx", "runtime_version": "1.7.1", "target": "sm86",
        "gpu": None, "compute_capability": (8, 6), "precision": "int8", "batches": (1, 1, 4), "build_seconds": 1.0,
        "created": utc_now(),
    }  # fmt: skip
    path.with_suffix(".json").write_text(PlanFacts(**(known | facts)).model_dump_json())
    return path


def rewritten(bundle: Bundle, change: Any, *, valid: bool = True) -> Path:
    """meta.json with other values and its digest made to fit, as an older version would have written it."""
    path = bundle.path / "meta.json"
    values = json.loads(path.read_text())
    change(values)
    if valid:
        values["digest"] = digest_of(values)
    path.write_text(json.dumps(values))
    return bundle.path


def segdec(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from segdec_edge.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_lineage_shows_accuracy_at_each_step(bundle: Bundle) -> None:
    lines = in_words(bundle_facts(bundle.path)).splitlines()
    table = lines[lines.index("lineage") + 1 :]
    assert table[0].split()[:4] == ["step", "when", "model", "AP"]
    export, quantize, openvino = (
        next(line for line in table if word in line) for word in ("export", "quanti", "openv")
    )
    assert export.split()[-7:] == ["1.0000", "0", "1", "15", "test", "onnxruntime", "0.5"]
    assert bundle.spec.sha256[:12] in quantize
    assert openvino.split() == ["1.0000", "0", "1", "15", "test", "openvino", "0.5"]
    assert table[-1].strip() == "5 of 5 layers"
    assert export.index("1.0000") == quantize.index("1.0000") == openvino.index("1.0000")


def test_what_compress_tried_stands_below_its_step(bundle: Bundle) -> None:
    shift = {"ap": 0.5, "fp": 3, "fn": 4, "mean_logit": 1.25}
    tried = [{"share": 0.15, "operations": 2_500_000_000, "shift": shift, "passed": False}, {"share": "odd"}, 7]
    extra = {"curve": tried, "chosen_on": "validation"}
    path = rewritten(bundle, lambda values: values["lineage"][-1].update(step="compress", **extra))
    told = in_words(bundle_facts(path))
    assert "    shares of the operations tried, on validation pictures:" in told
    assert "      15.0%: 2.5 GFLOP, AP 0.5000, FP 3, FN 4, logits 1.25 apart: too far\n" in told
    assert "      unknown: unknown GFLOP, AP unknown" in told
    assert to_json(bundle_facts(path))["lineage"][-1]["curve"][0] == tried[0]


def test_the_threshold_comes_with_its_source_and_log(bundle: Bundle) -> None:
    set_threshold(bundle.path, 0.4, "fewer misses wanted")
    told = in_words(bundle_facts(bundle.path))
    assert "threshold  0.4: fewer misses wanted" in told
    assert "0.5 → 0.4: fewer misses wanted" in told


def test_engines_say_whether_they_belong_to_this_model(bundle: Bundle) -> None:
    plan(bundle, "sm86-int8")
    plan(bundle, "older", onnx_sha256="a" * 64)
    plan(bundle, "cut", b"longer").write_bytes(b"long")
    (plan(bundle, "alone").with_suffix(".json")).unlink()
    (plan(bundle, "odd").with_suffix(".json")).write_bytes(b"\xff\xfe")
    facts = bundle_facts(bundle.path)
    states = {state.name: state for state in facts.plans}
    assert not facts.damage
    assert states["sm86-int8.plan"].fault == ""
    assert "was built from model aaaaaaaaaaaa" in states["older.plan"].fault
    assert "is damaged: 4 bytes, wanted 6" in states["cut.plan"].fault
    assert states["alone.plan"].fault.startswith("has no alone.json")
    assert states["odd.plan"].facts is None
    if current_gpu() is None:
        assert states["sm86-int8.plan"].here == "no NVIDIA GPU here"
    assert [step.step for step in facts.lineage] == ["export", "quantize", "build"]
    told = in_words(facts)
    assert "sm86-int8.plan: int8 for sm86, 0.0 MB, tensorrt_rtx 1.7.1, no GPU at hand, batch 1, 1, 4" in told
    assert "    fits this model.onnx; " in told


def test_an_engines_accuracy_stands_at_its_step(bundle: Bundle) -> None:
    plan(bundle, "sm86-int8")
    record = bundle.meta.accuracy[0].model_copy(update={"backend": "tensorrt", "ap": 0.5, "when": utc_now()})
    add_accuracy(bundle.path, record)
    *_, quantize, build = bundle_facts(bundle.path).lineage
    assert [one["ap"] for one in build.accuracy] == [0.5]
    assert all(one["backend"] != "tensorrt" for one in quantize.accuracy)
    plan(bundle, "sm86-int8", b"built again", created=utc_now() + timedelta(seconds=5))
    assert bundle_facts(bundle.path).lineage[-1].accuracy == ()  # the record is about the plan that was there before
    plan(bundle, "sm75-int8")  # the record does not say which of the two it is about
    assert all(step.accuracy == () for step in bundle_facts(bundle.path).lineage[-2:])


def test_json_is_for_programs(bundle: Bundle, spec: str) -> None:
    rewritten(bundle, lambda values: values["training"].update(train_digests=["x"] * 500, checkpoint_sha256="c" * 64))
    done = segdec("info", bundle.path, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["damage"] is None
    assert found["training"]["settings"] == {"data": spec}
    assert "train_digests" not in found["training"]
    assert [step["step"] for step in found["lineage"]] == ["checkpoint", "export", "quantize"]
    assert found["lineage"][2]["accuracy"][0]["ap"] == 1.0
    assert found["model"]["sha256"] == bundle.spec.sha256
    assert found["split"] == {"how": "by hand", "train": 2, "validation": 0, "test": 15}
    assert found["engines"] == []


def test_an_old_bundle_shows_what_it_has(bundle: Bundle) -> None:
    def older(values: dict[str, Any]) -> None:
        for key in ("lineage", "accuracy", "versions", "parity", "training"):
            del values[key]
        del values["input"]["source_hw"]

    path = rewritten(bundle, older)
    (path / "split.json").unlink()
    done = segdec("info", path)
    assert done.returncode == 0, done.stderr
    assert "lineage\n  not recorded" in done.stdout
    assert "trained    on unknown" in done.stdout


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        pytest.param(lambda path: (path / "model.onnx").write_bytes(b"x"), "the file was changed", id="other model"),
        pytest.param(lambda path: (path / "model.onnx").unlink(), "has no model.onnx", id="no model"),
        pytest.param(lambda path: (path / "split.json").write_text("{"), "split.json: cannot be read", id="split"),
    ],
)
def test_damage_is_one_line_and_the_rest_is_shown(bundle: Bundle, damage: Any, told: str) -> None:
    plan(bundle, "sm86-int8")
    damage(bundle.path)
    done = segdec("info", bundle.path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("damaged: "))
    assert told in line
    assert "threshold  0.5: by hand" in done.stdout
    assert "sm86-int8.plan" in done.stdout


def test_a_changed_meta_is_damage(bundle: Bundle) -> None:
    rewritten(bundle, lambda values: values["threshold"].update(value=0.9), valid=False)
    facts = bundle_facts(bundle.path)
    assert "changed by hand or damaged" in facts.damage
    assert "threshold  0.9" in in_words(facts)
    assert to_json(facts)["damage"] == facts.damage


@pytest.mark.parametrize(
    "key",
    ["model", "input", "outputs", "threshold", "training", "lineage", "accuracy", "versions", "parity", "created"],
)
@pytest.mark.parametrize("value", [None, 5, "x", [], {}, [5]])
def test_no_content_of_meta_json_is_a_traceback(bundle: Bundle, key: str, value: Any) -> None:
    rewritten(bundle, lambda values: values.update({key: value}))
    facts = bundle_facts(bundle.path)
    assert in_words(facts)
    json.dumps(to_json(facts))


def test_what_is_no_bundle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        bundle_facts(tmp_path / "none.bundle")
    with pytest.raises(BundleError, match=r"has no meta\.json"):
        bundle_facts(tmp_path)
    (tmp_path / "meta.json").write_text("[1]")
    with pytest.raises(BundleError, match="wanted a JSON object"):
        bundle_facts(tmp_path)
    done = segdec("info", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_the_bundle_is_left_as_it_is(bundle: Bundle) -> None:
    before = {path.name: path.read_bytes() for path in bundle.path.iterdir()}
    bundle_facts(bundle.path)
    assert {path.name: path.read_bytes() for path in bundle.path.iterdir()} == before
    assert read_bundle(bundle.path).meta == bundle.meta
