"""What every sink promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from segdec_edge.outputs.archive import Archive
from segdec_edge.outputs.ledger import Ledger
from segdec_edge.types import Frame, Label, Output, Verdict


@pytest.fixture(params=["ledger", "archive"])
def output(request: pytest.FixtureRequest, tmp_path: Path, run_id: str):
    made = Ledger(tmp_path / "ledger.sqlite", run_id) if request.param == "ledger" else Archive(tmp_path / "archive")
    yield made
    made.close()


def test_is_an_output(output: Output) -> None:
    assert isinstance(output, Output)


@pytest.mark.parametrize("label", list(Label))
def test_takes_every_verdict_with_or_without_a_frame(
    output: Output, label: Label, make_verdict: Callable[..., Verdict], make_frame: Callable[..., Frame]
) -> None:
    output.write(make_verdict(0, label), make_frame())
    output.write(make_verdict(1, label, score=None, heatmap=None), make_frame(1))
    output.write(make_verdict(2, label, score=None, heatmap=None), None)


def test_same_verdict_again_is_harmless(
    output: Output, make_verdict: Callable[..., Verdict], make_frame: Callable[..., Frame]
) -> None:
    output.write(make_verdict(), make_frame())
    output.write(make_verdict(), make_frame())


def test_close_may_repeat(output: Output) -> None:
    output.close()
    output.close()
