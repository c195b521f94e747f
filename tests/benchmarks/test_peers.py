"""The pure parts of the comparison with others, and its protocol with a real child process."""

from __future__ import annotations

import ast
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("torch")

import torch

from benchmarks.peers import child as child_module
from benchmarks.peers.child import Child, PeerError, environment, settle
from benchmarks.peers.install import HERE, names
from benchmarks.peers.known import PLAIN, Entrant, chosen, other_methods, our_forms, plain_peers
from benchmarks.peers.prepare import Material
from benchmarks.peers.run import Found, all_judged, judged, notes, scores_of, share, sitting
from benchmarks.peers.table import changed_verdicts, lines_of, markdown, marks_of, picked_threshold, timed_row
from segdec_edge.model.segdecnet import SegDecNet
from segdec_edge.timing import Sitting

ENTRANTS = [
    *plain_peers(Path("a.pt"), Path("a.onnx"), 0.5),
    *other_methods(Path("work"), 3),
    *our_forms([Path("a.bundle")], [0.5], ["openvino"]),
]
PEER = """
import sys
sys.path.insert(0, {here!r})
from serve import serve
def opened(wanted):
    print("a library that prints")
    if wanted["model"] == "broken":
        raise ValueError("no such model")
    return (lambda picture: (float(picture.mean()), None)), {{"precision": "fp32"}}
serve(opened, "numpy")
"""


def test_every_peer_has_its_files() -> None:
    for one in ENTRANTS:
        assert (HERE / f"{one.script}.py").exists()
        assert one.venv in names()
        ast.parse((HERE / "snippets" / f"{one.script}.py").read_text(encoding="utf-8"))


def test_the_plain_peer_is_always_there() -> None:
    assert [one.name for one in chosen(ENTRANTS, "torch_compile,a openvino")] == [PLAIN, "torch.compile", "a openvino"]
    assert chosen(ENTRANTS, "all") == ENTRANTS
    with pytest.raises(ValueError, match="tensorflow: unknown"):
        chosen(ENTRANTS, "tensorflow")


def test_instances_side_by_side_have_cores_of_their_own() -> None:
    assert [share([3, 5, 7, 9], 2, place) for place in (0, 1, 2)] == [[3, 5], [7, 9], [3, 5, 7, 9]]


def test_accuracy_at_the_threshold() -> None:
    labels, scores = [True, True, False, False], [0.9, 0.4, 0.6, 0.1]
    marks = marks_of(labels, scores, 0.5)
    assert (marks.fp, marks.fn, marks.pictures) == (1, 1, 4)
    assert marks.ap == pytest.approx((1 + 2 / 3) / 2)
    assert marks_of([False], [0.1], 0.5).ap is None
    assert changed_verdicts(scores, 0.5, [0.2, 0.2, 0.8, 0.8], 0.7) == 2
    assert 0.1 < picked_threshold(labels, [0.9, 0.8, 0.1, 0.1]) <= 0.8
    assert picked_threshold([False], [0.1]) == 0.5


def test_a_row_and_its_table() -> None:
    fast = {"total": 2.0}, {"total": 2.0}
    slow = {"total": 8.0, "infer": 7.0}, {"total": 8.0, "infer": 7.0}
    sittings = [Sitting({PLAIN: slow, "fast": fast}, ()) for _ in range(3)]
    opened = [{"versions": {"torch": "2"}, "load_ms": 1.26}]
    rows = [timed_row(name, PLAIN, sittings, {"precision": "fp32"}, opened) for name in (PLAIN, "fast")]
    assert rows[1].times_faster == pytest.approx(4)
    assert (rows[0].infer_p50, rows[1].infer_p50) == (7.0, None)
    text = markdown(rows, {"other": "not installed."}, ["as it was timed"])
    assert "| plain torch | fp32 | 8.0 | 8.0 | 7.0 | 1 |" in text
    assert "| fast | fp32 | 2.0 | 2.0 | – | 4.00 (4.00 to 4.00) |" in text
    assert text.endswith("- as it was timed.\n- not run: other: not installed.\n")


def test_lines_are_those_with_code() -> None:
    assert lines_of("# why\nimport a\n\n  # more\nprint(a)  # here\n") == 2


def test_no_setting_of_the_caller_reaches_a_peer(tmp_path: Path) -> None:
    seen = environment({"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": "x", "HOME": "h"}, tmp_path)
    assert seen["HOME"] == "h" and not any(name.startswith("OMP") for name in seen)
    assert seen["PYTHONPATH"] == str(HERE.parents[1])


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a peer script, run by this Python."""
    (tmp_path / "mean.py").write_text(PEER.format(here=str(HERE)), encoding="utf-8")
    monkeypatch.setattr(child_module, "HERE", tmp_path)
    monkeypatch.setattr(child_module, "python_of", lambda name: Path(sys.executable))
    np.save(tmp_path / "a.npy", np.full((4, 4), 7, np.uint8))
    return tmp_path


def test_a_child_answers(peer: Path) -> None:
    with Child("mean", "any", peer) as child:
        opened = child.ask("open", model="m", threshold=5.0)
        assert opened["told"] == {"precision": "fp32"} and opened["versions"]["numpy"] == np.__version__
        assert child.ask("pictures", files=[str(peer / "a.npy")]) == {"count": 1}
        answer = child.ask("judge", index=3, before=1)
        assert (answer["score"], answer["defect"], answer["infer_ms"]) == (7.0, True, None)
        assert answer["total_ms"] > 0
        assert child.ask("flat_out", seconds=0.0)["pictures_per_s"] > 0
        assert child.ask("memory")["peak_mib"] > 1


def material_of(folder: Path, pictures: int, side: int) -> Material:
    files = tuple(folder / f"{number}.npy" for number in range(pictures))
    for number, path in enumerate(files):
        np.save(path, np.full((side, side), number, np.uint8))
    labels = tuple(number % 2 == 1 for number in range(pictures))
    return Material(folder, (side, side), 1, files, labels, files, labels)


def test_memory_is_that_of_the_timed_pictures_alone(peer: Path) -> None:
    given, found = material_of(peer, 40, 1400), Found()  # 40 pictures of 1.9 MiB, of which 8 are timed
    mean = Entrant("mean", "mean", "any", Path("m"))
    asked = SimpleNamespace(rounds=2, sittings=2, threads=1, cold=False)
    ready = judged(mean, given, 1, found)
    assert ready is not None and found.scores["mean"] == list(range(40)) and not found.peak_mib
    bare = judged(replace(mean, name="bare", unjudged="random"), given, 1, found)
    assert bare is not None
    for number in range(asked.sittings):
        sitting([ready, bare], given, asked, number, found)
    assert found.peak_mib["mean"] == pytest.approx(found.peak_mib["bare"], abs=8)


def test_a_plain_peer_that_does_not_run_ends_it_before_the_others_are_scored(peer: Path) -> None:
    given, found = material_of(peer, 2, 8), Found()
    fine, broken = Entrant("fine", "mean", "any", Path("m")), Entrant(PLAIN, "mean", "any", Path("broken"))
    with pytest.raises(PeerError, match=f"{PLAIN}, which all are compared with, does not run: .*no such model"):
        all_judged([fine, broken], given, 1, found)
    assert not found.scores
    assert [one.name for one in all_judged([fine, replace(broken, model=Path("m"))], given, 1, Found())] == [
        PLAIN,
        "fine",
    ]


def test_a_scored_picture_is_let_go(peer: Path) -> None:
    given = material_of(peer, 40, 1400)
    with Child("mean", "any", peer) as child:
        child.ask("open", model="m", threshold=5.0)
        scores_of(child, given.files[:2])
        before = child.ask("memory")["peak_mib"]
        assert scores_of(child, given.files) == list(range(40))
        assert child.ask("memory")["peak_mib"] < before + 8


def test_the_notes_tell_the_rounds_that_were_run() -> None:
    asked = SimpleNamespace(rounds=50, sittings=6, threads=2, cold=False)
    text = " ".join(notes(asked, SimpleNamespace(cpu="a CPU", cores=2), []))
    assert "48 rounds in 6 sittings" in text and "8 timed pictures" in text


def test_a_child_that_ends_says_why(peer: Path) -> None:
    with Child("mean", "any", peer) as child, pytest.raises(PeerError, match="ended with 1: ValueError: no such model"):
        child.ask("open", model="broken")


@pytest.fixture
def this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "python_of", lambda name: Path(sys.executable))


def test_the_gpu_peers_say_that_there_is_none(this_python: None, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with Child("torch_cuda", "any", tmp_path) as child, pytest.raises(PeerError, match="sees no CUDA GPU"):
        child.ask("open", model="m.pt", threads=1, size_hw=[64, 64], channels=1, options={"form": "fast"})


@pytest.mark.gpu
@pytest.mark.parametrize("form", ["plain", "fast"])
def test_the_gpu_peers_score_as_the_plain_one(form: str, this_python: None, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    torch.manual_seed(0)
    torch.save(SegDecNet(width=0.25).state_dict(), tmp_path / "net.pt")
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    wanted = {"model": str(tmp_path / "net.pt"), "threads": 1, "size_hw": [64, 64], "channels": 1, "threshold": 0.5}
    scores = []
    for script in ("plain_torch", "torch_cuda"):
        with Child(script, "any", tmp_path) as child:
            child.ask("open", **wanted, options={"form": form})
            child.ask("pictures", files=[str(tmp_path / "a.npy")])
            scores.append(child.ask("judge", index=0)["score"])
    assert scores[1] == pytest.approx(scores[0], abs=0.01)


def test_a_peer_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"install\.py nothing_such"):
        Child("serve", "nothing_such", tmp_path)


def test_threads_that_run_are_waited_for() -> None:
    start = time.monotonic()
    assert settle([os.getpid()], limit_s=0.05) >= 0.05  # this very process runs while it looks
    assert settle([], limit_s=5.0) < 1.0
    assert time.monotonic() - start < 5
