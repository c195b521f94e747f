"""segdec build as typed, and its bar."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from segdec_edge.bundle import read_bundle
from segdec_edge.cli import app
from segdec_edge.cli.build import _batches, _bytes
from segdec_edge.deploy.build_progress import TerminalMonitor
from segdec_edge.deploy.export import export_checkpoint
from segdec_edge.errors import ConfigError
from segdec_edge.runtime.sidecar import read_plan
from tests.nets import lively_net, save_net, textures


@pytest.mark.trt
@pytest.mark.usefixtures("rtx")
def test_a_plan_and_its_sidecar_come_out(tmp_path: Path) -> None:
    checkpoint = save_net(tmp_path / "net.pt", lively_net())
    bundle = tmp_path / "parts.bundle"
    export_checkpoint(checkpoint, bundle, pictures=list(textures(1)[..., 0]), simplify=False)
    command = ["build", str(bundle), "--target", "sm86", "--batch", "1,4,8", "--workspace", "512MiB"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    plan = bundle / "engines" / "rtx-sm86-fp32.plan"
    assert re.fullmatch(rf"{plan}: [0-9.]+ MB, fp32, batch 1 to 8, [0-9]+ s; not run here\n", done.output)
    assert read_plan(plan, read_bundle(bundle)).facts.batches == (1, 4, 8)


@pytest.mark.parametrize(("text", "wanted"), [("1", (1, 1, 1)), ("1,4,8", (1, 4, 8)), (" 2, 2,4", (2, 2, 4))])
def test_batch_sizes_are_one_or_three(text: str, wanted: tuple[int, int, int]) -> None:
    assert _batches(text) == wanted


@pytest.mark.parametrize("text", ["", "x", "1,2", "1,2,3,4", "1;2;3"])
def test_other_batch_sizes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="wanted one number or three"):
        _batches(text)


@pytest.mark.parametrize(
    ("text", "wanted"), [("1GiB", 1 << 30), ("512MiB", 512 << 20), ("1.5 gib", 3 << 29), ("64KiB", 1 << 16), ("7", 7)]
)
def test_a_size_of_memory(text: str, wanted: int) -> None:
    assert _bytes(text) == wanted


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1GB", "1 TiB"])
def test_another_size_of_memory_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="wanted a size"):
        _bytes(text)


def test_phases_are_bars_below_the_one_that_they_belong_to() -> None:
    written = io.StringIO()
    with TerminalMonitor(Console(file=written, force_terminal=True, width=100)) as monitor:
        monitor.start("Building engine", None, 6)
        monitor.start("Timing tactics", "Building engine", 4)
        assert monitor.step("Timing tactics", 2)
        assert monitor.step("never started", 1)
        monitor.finish("Timing tactics")
        monitor.finish("Timing tactics")
        monitor.cancelled = True
        assert not monitor.step("Building engine", 1)
    assert "Building engine" in written.getvalue()


def test_without_a_terminal_nothing_is_drawn() -> None:
    written = io.StringIO()
    with TerminalMonitor(Console(file=written)) as monitor:
        monitor.start("Building engine", None, 6)
    assert written.getvalue() == ""
