"""The bundle: whole or absent, checked on every read, its changes logged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from segdec_edge.bundle import (
    DIGEST,
    META,
    Accuracy,
    Bundle,
    InputFacts,
    Meta,
    OutputFacts,
    Parity,
    Step,
    Threshold,
    add_accuracy,
    digest_of,
    model_facts,
    read_bundle,
    set_threshold,
    utc_now,
    write_bundle,
)
from segdec_edge.errors import BundleError, StorageError
from segdec_edge.types import ModelSpec

ONNX = b"stands for a graph: the bundle does not look inside"


def make_meta(content: bytes = ONNX, **changes: Any) -> Meta:
    facts = model_facts(content, opset=17, simplified=True)
    values: dict[str, Any] = {
        "segdec_edge": "0.1.0",
        "created": utc_now(),
        "input": InputFacts(size_hw=(704, 256), channels=1, colour="grey"),
        "outputs": OutputFacts(heatmap_hw=(88, 32)),
        "threshold": Threshold(value=0.4, source="best F-measure on 100 training pictures"),
        "model": facts,
        "training": {"epoch": 35, "settings": {"size_hw": [704, 256], "rate": 0.5, "fold": None}},
        "parity": Parity(pictures=8, max_abs_score=1e-7, max_abs_heatmap=2e-6, limit=1e-4),
        "versions": {"torch": "2.13.0"},
        "lineage": (Step(step="export", sha256=facts.sha256, when=utc_now()),),
    }
    return Meta(**{**values, **changes})


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(
        tmp_path / "parts.bundle", onnx_bytes=ONNX, meta=make_meta(), split={"train": ["a"], "how": "x"}
    )


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((path / "meta.json").read_text())
    change(values)
    (path / "meta.json").write_text(json.dumps(values))


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name != "parts.bundle"]


def test_what_is_written_is_read(bundle: Bundle) -> None:
    again = read_bundle(bundle.path)
    assert again == bundle
    assert again.model_path.read_bytes() == ONNX
    assert again.split() == {"train": ["a"], "how": "x"}
    assert again.spec == ModelSpec(
        size_hw=(704, 256),
        channels=1,
        heatmap_hw=(88, 32),
        threshold=0.4,
        sha256=again.meta.model.sha256,
        precision="fp32",
    )


def test_a_bundle_without_split_says_so(tmp_path: Path) -> None:
    assert write_bundle(tmp_path / "b.bundle", onnx_bytes=ONNX, meta=make_meta()).split() is None


def test_a_new_bundle_replaces_an_old_one_whole(bundle: Bundle) -> None:
    (bundle.path / "engines").mkdir()
    content = b"another graph"
    write_bundle(bundle.path, onnx_bytes=content, meta=make_meta(content))
    assert read_bundle(bundle.path).model_path.read_bytes() == content
    assert sorted(entry.name for entry in bundle.path.iterdir()) == ["meta.json", "model.onnx"]
    assert leftovers(bundle.path.parent) == []


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{}")
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match=r"holds thesis.txt.*nothing was written"):
        write_bundle(tmp_path, onnx_bytes=ONNX, meta=make_meta())
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "parts.bundle").write_text("kept")
    with pytest.raises(BundleError, match="is a file"):
        write_bundle(tmp_path / "parts.bundle", onnx_bytes=ONNX, meta=make_meta())
    assert (tmp_path / "parts.bundle").read_text() == "kept"


def test_a_link_is_not_overwritten(bundle: Bundle) -> None:
    link = bundle.path.with_name("current.bundle")
    link.symlink_to(bundle.path)
    with pytest.raises(BundleError, match="is a link"):
        write_bundle(link, onnx_bytes=ONNX, meta=make_meta())
    assert read_bundle(link).meta == bundle.meta


def test_a_corrupt_bundle_can_be_replaced(bundle: Bundle) -> None:
    (bundle.path / "meta.json").write_text("{")
    write_bundle(bundle.path, onnx_bytes=ONNX, meta=make_meta())
    read_bundle(bundle.path)


def test_meta_of_another_model_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="meta names a model"):
        write_bundle(tmp_path / "parts.bundle", onnx_bytes=ONNX, meta=make_meta(b"another"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_parent_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_bundle(tmp_path / "none" / "parts.bundle", onnx_bytes=ONNX, meta=make_meta())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="no permission"):
        write_bundle(tmp_path / "parts.bundle", onnx_bytes=ONNX, meta=make_meta())


def _hash_differs(path: Path) -> None:
    (path / "model.onnx").write_bytes(ONNX[:-1] + b"!")


def _truncated(path: Path) -> None:
    (path / "model.onnx").write_bytes(ONNX[:10])


def _newer(path: Path) -> None:
    edit(path, lambda values: values.update(format=2, wonders=True))


def _no_format(path: Path) -> None:
    edit(path, lambda values: values.pop("format"))


def _no_hash(path: Path) -> None:
    edit(path, lambda values: values["model"].pop("sha256"))


def _wrong_type(path: Path) -> None:
    edit(path, lambda values: values["threshold"].update(value="0.4"))


def _out_of_range(path: Path) -> None:
    edit(path, lambda values: values["threshold"].update(value=1.4))


def _five_channels(path: Path) -> None:
    edit(path, lambda values: values["input"].update(channels=5))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_hash_differs, r"model.onnx: hash [0-9a-f]{12}, wanted [0-9a-f]{12}.*Copy the bundle again"),
        (_truncated, r"model.onnx: hash [0-9a-f]{12}, wanted"),
        (lambda path: (path / "model.onnx").unlink(), "has no model.onnx"),
        (lambda path: (path / "meta.json").unlink(), "has no meta.json, so it is no bundle"),
        (lambda path: (path / "meta.json").write_text('{"format": 1,'), "meta.json: not valid JSON"),
        (lambda path: (path / "meta.json").write_bytes(b"\xff\xfe\0"), "meta.json: not valid JSON"),
        (lambda path: (path / "meta.json").write_text("[1]"), "holds a list, wanted a JSON object"),
        (_newer, "bundle format 2, wanted 1. Update segdec-edge"),
        (_no_format, "bundle format None, wanted 1"),
        (_no_hash, r"model.sha256: field required"),
        (_wrong_type, r"threshold.value: input should be a valid number"),
        (_out_of_range, r"threshold.value: input should be less than or equal to 1"),
        (_five_channels, r"input.channels: input should be 1 or 3"),
    ],
)
def test_a_damaged_bundle_is_refused_in_one_line(bundle: Bundle, harm: Callable[[Path], object], message: str) -> None:
    harm(bundle.path)
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(bundle.path)
    assert "\n" not in str(caught.value)
    assert str(bundle.path) in str(caught.value)


def test_a_corrupt_split_is_refused(bundle: Bundle) -> None:
    (bundle.path / "split.json").write_text("{")
    with pytest.raises(BundleError, match=r"split.json: not valid JSON"):
        read_bundle(bundle.path).split()


def test_a_missing_bundle_and_a_plain_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"does not exist, wanted a bundle folder.*segdec export"):
        read_bundle(tmp_path / "none.bundle")
    (tmp_path / "model.onnx").write_bytes(ONNX)
    with pytest.raises(BundleError, match="is a file, wanted a bundle folder"):
        read_bundle(tmp_path / "model.onnx")


def test_a_threshold_change_is_logged_and_touches_nothing_else(bundle: Bundle) -> None:
    before = bundle.model_path.stat().st_mtime_ns
    set_threshold(bundle.path, 0.7, "12 good parts rejected in shift 3")
    changed = set_threshold(bundle.path, 0.0, "test of the reject gate")
    again = read_bundle(bundle.path)
    assert again == changed
    assert again.spec.threshold == 0.0
    assert [(entry.old, entry.new, entry.why) for entry in again.meta.threshold.log] == [
        (0.4, 0.7, "12 good parts rejected in shift 3"),
        (0.7, 0.0, "test of the reject gate"),
    ]
    assert utc_now() - again.meta.threshold.log[0].when < timedelta(minutes=5)
    assert again.meta.threshold.source == "test of the reject gate"
    assert again.model_path.stat().st_mtime_ns == before
    assert again.meta.model == bundle.meta.model


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_an_impossible_threshold_is_refused(bundle: Bundle, value: float) -> None:
    with pytest.raises(BundleError, match="wanted a number from 0 to 1"):
        set_threshold(bundle.path, value, "because")
    assert read_bundle(bundle.path) == bundle


def test_a_threshold_needs_a_reason(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="without a reason"):
        set_threshold(bundle.path, 0.5, " ")


def test_a_newer_accuracy_replaces_the_older_of_the_same_kind(bundle: Bundle) -> None:
    def record(backend: str, fn: int) -> Accuracy:
        return Accuracy(data="kolektor:x", subset="test", backend=backend, ap=0.99, fp=0, fn=fn, threshold=0.4)

    for one in (record("onnxruntime", 3), record("openvino", 2), record("onnxruntime", 1)):
        add_accuracy(bundle.path, one)
    found = read_bundle(bundle.path).meta.accuracy
    assert [(one.backend, one.fn) for one in found] == [("openvino", 2), ("onnxruntime", 1)]


def test_keys_of_a_newer_writer_survive_a_rewrite(bundle: Bundle) -> None:
    def write_as_newer(values: dict[str, Any]) -> None:
        values["model"].update(folded=True)
        values[DIGEST] = digest_of(values)

    edit(bundle.path, write_as_newer)
    set_threshold(bundle.path, 0.5, "because")
    assert json.loads((bundle.path / "meta.json").read_text())["model"]["folded"] is True


@pytest.mark.parametrize(
    ("key", "value"), [("threshold", {"value": 0.9999, "source": "test"}), ("format", True), ("extra", 1)]
)
def test_a_meta_json_changed_by_hand_is_refused(bundle: Bundle, key: str, value: object) -> None:
    path = bundle.path / META
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, key: value}))
    with pytest.raises(BundleError, match=r"changed by hand|bundle format"):
        read_bundle(bundle.path)


def test_a_meta_json_without_its_digest_is_refused_and_white_space_is_not(bundle: Bundle) -> None:
    path = bundle.path / META
    values = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(values.items())), indent=7))
    assert read_bundle(bundle.path).meta == bundle.meta
    values.pop("digest")
    path.write_text(json.dumps(values))
    with pytest.raises(BundleError, match="not what its digest says"):
        read_bundle(bundle.path)


def test_the_digest_names_the_bundle_threshold_and_all(bundle: Bundle) -> None:
    def written() -> str:
        return str(json.loads((bundle.path / META).read_text())[DIGEST])

    assert bundle.digest == read_bundle(bundle.path).digest == written()
    changed = set_threshold(bundle.path, 0.5, "because")
    assert changed.meta.model.sha256 == bundle.meta.model.sha256
    assert changed.digest == read_bundle(bundle.path).digest == written() != bundle.digest
