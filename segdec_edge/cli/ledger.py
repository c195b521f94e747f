"""segdec ledger: look into a ledger, also while a station writes it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdec_edge.cli.app import app, console

if TYPE_CHECKING:
    from segdec_edge.outputs.ledger_read import Selection

ledger_app = typer.Typer(no_args_is_help=True, help="Export, count and verify what a station recorded.")
app.add_typer(ledger_app, name="ledger")

File = Annotated[Path, typer.Argument(help="The ledger, as ledger.sqlite; also while a station writes it.")]
Run = Annotated[str | None, typer.Option(help="Only this run.")]
Camera = Annotated[str | None, typer.Option(help="Only this camera.")]
Label = Annotated[str | None, typer.Option(help="Only OK, DEFECT or UNKNOWN.")]
Since = Annotated[str | None, typer.Option(help="Captured at or after: 2026-01-31 or 2026-01-31T06:00, local time.")]
Until = Annotated[str | None, typer.Option(help="Captured before.")]
After = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Only rows of a larger number, for one export after another: where the clock is set back, --since would"
        " leave out or repeat parts.",
    ),
]
_SHOWN = 20


class Format(str, Enum):
    csv = "csv"
    parquet = "parquet"


@ledger_app.command()
def export(
    file: File,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    format: Annotated[Format, typer.Option(help="csv, or parquet with the extra 'parquet'.")] = Format.csv,
    since: Since = None,
    until: Until = None,
    after: After = None,
    run: Run = None,
    camera: Camera = None,
    label: Label = None,
) -> None:
    """Write rows to a table, in the order in which they were recorded."""
    from segdec_edge.outputs.ledger_export import export_ledger

    chosen = dataclasses.replace(_selection(since, until, run, camera, label), after=after)
    count = export_ledger(file, out, format.value, chosen)
    console.print(f"{out}: {count} parts", markup=False)


@ledger_app.command()
def stats(
    file: File,
    since: Since = None,
    until: Until = None,
    run: Run = None,
    camera: Camera = None,
    label: Label = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a program.")] = False,
) -> None:
    """Count verdicts by camera, recipe and hour; why parts are UNKNOWN; latencies; triggers without a verdict."""
    from segdec_edge.outputs.ledger_check import check_ledger
    from segdec_edge.outputs.ledger_stats import figures

    counted, check = figures(file, _selection(since, until, run, camera, label)), check_ledger(file)
    gaps = [dataclasses.asdict(gap) for gap in check.gaps]
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(counted) | {"gaps": gaps}, indent=2, ensure_ascii=False))
        return
    lines = [f"{counted.parts} parts in {counted.runs} runs: {_in_words(counted.verdicts)}; {counted.review} to review"]
    lines += _grouped("camera", counted.by_camera) + _grouped("recipe", counted.by_recipe)
    lines += _grouped("hour", dict(list(counted.by_hour.items())[-24:]))
    lines += [f"UNKNOWN {count:>8}  {reason}" for reason, count in counted.reasons.items()]
    if counted.latency_ms:
        lines.append("latency " + ", ".join(f"{name} {ms:g} ms" for name, ms in counted.latency_ms.items()))
    lines += [f"event {kind}: {count}" for kind, count in counted.events.items()]
    lines.append(f"{check.missing} triggers without a verdict, in {len(check.gaps)} gaps of the whole ledger")
    console.print("\n".join(lines), markup=False)


@ledger_app.command()
def verify(file: File) -> None:
    """Whether the ledger is whole: SQLite's own check, and one verdict for every trigger up to the last recorded.

    Exit 1 on damage, a trigger without a verdict, or one with two. A clock that jumped is told, and is no loss.
    """
    from segdec_edge.outputs.ledger_check import check_ledger

    check = check_ledger(file)
    lines = [f"{file}: version {check.version}, {check.parts} parts in {check.runs} runs"]
    lines += [f"damaged: {line}" for line in check.damage[:_SHOWN]]
    lines += [
        f"run {gap.run_id}, camera {gap.camera}: no verdict for trigger {gap.first}"
        + (f" to {gap.last}" if gap.parts > 1 else "")
        for gap in check.gaps[:_SHOWN]
    ]
    lines += [f"part {part}: its trigger has a verdict already" for part in check.repeated[:_SHOWN]]
    if check.not_judged:
        lines.append(f"{check.not_judged} pictures of free-running cameras were not judged; these are no parts")
    lines += check.clock[:_SHOWN]
    if check.unset:
        lines.append(f"{check.unset} parts were taken before the clock was set; their order is right all the same")
    lines.append(_verdict(check.damage, check.missing, check.repeated))
    console.print("\n".join(lines), markup=False)
    if not check.is_whole:
        raise typer.Exit(1)


def _verdict(damage: tuple[str, ...], missing: int, repeated: tuple[str, ...]) -> str:
    if damage:
        return "DAMAGED: keep the file for inquiry, and give the station another one"
    if missing or repeated:
        return f"INCOMPLETE: {missing} triggers without a verdict, {len(repeated)} with more than one"
    return "whole: every trigger has one verdict"


def _selection(
    since: str | None, until: str | None, run: str | None, camera: str | None, label: str | None
) -> Selection:
    from segdec_edge.errors import ConfigError
    from segdec_edge.outputs.ledger_read import Selection
    from segdec_edge.types import Label

    try:
        wanted = None if label is None else Label(label.upper())
    except ValueError:
        raise ConfigError(f"--label {label}: wanted OK, DEFECT or UNKNOWN. Change it.") from None
    return Selection(run, camera, wanted, _nanoseconds("--since", since), _nanoseconds("--until", until))


def _nanoseconds(option: str, text: str | None) -> int | None:
    """Local time, where the text names no zone."""
    from segdec_edge.errors import ConfigError

    if text is None:
        return None
    try:
        # Python 3.10 reads no Z.
        seconds = datetime.fromisoformat(text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else "")).timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{option} {text}: no date, wanted one as 2026-01-31 or 2026-01-31T06:00. Change it."
        ) from None
    return round(seconds * 1e9)


def _grouped(what: str, groups: Mapping[str, Mapping[str, int]]) -> list[str]:
    return [f"{what} {name or '-'}: {_in_words(counted)}" for name, counted in groups.items()]


def _in_words(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{label} {count}" for label, count in counted.items())
