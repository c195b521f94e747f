"""How cost grows: resolution, width, batch, cameras, data set in training, ledger. Exponents, knees, one plot an axis.

    python benchmarks/scale.py --bundle PARTS.bundle -o benchmarks/results/scale.json --axes resolution,width

Every point is a process of its own, written down at once: run it again and it goes on where it was killed; --again
measures the chosen axes anew. An axis that was begun with other settings is refused. The bundle is only for the
cameras; networks for the other axes are untrained ones. The ledger's points are those of results/ledger_scale.json;
--ledger-rows measures others, and those alone count then: --axes ledger --ledger-rows 10000 100000 1000000 10000000
--folder DISK needs 8 GB there and, on a busy core, more than an hour. A knee is where the local exponent is farthest
from the fitted one; `sigmas` says whether the samples' spread explains it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from entry import earlier, one_line, require_folder, require_rounds
from scale_fit import fit, plot_svg
from scale_points import ledger_curves

from segdec_edge.bench.machine import code_of, conditions, machine_of
from segdec_edge.bundle import read_bundle
from segdec_edge.files import require_place, write_atomic

HERE = Path(__file__).resolve().parent
BACKENDS = ("onnxruntime", "openvino")
SIDES = (256, 384, 512, 768, 1024, 1536, 2048)
WIDTHS = (0.125, 0.25, 0.5, 0.75, 1.0)
BATCHES = (1, 2, 4, 8, 16)
CAMERAS = (1, 2, 3, 4, 6, 8)
PICTURES = (100, 300, 1000, 3000, 10_000)
AXES = {
    "resolution": ("pixels", "ms, MiB"),
    "width": ("width", "ms, MiB"),
    "batch": ("pictures a call", "ms a call, MiB"),
    "cameras": ("cameras on one backend", "ms a frame of all cameras"),
    "training": ("pictures", "s, ms, MiB"),
    "ledger": ("rows", "s"),
}
_FOLDERS = re.compile(r"(?<![\w/])/(?:[^/\s:'\"]+/)+")
"""A record travels: names of files stay, folders do not."""
SETTINGS = {"width": ("resolution", "batch"), "frames": ("cameras",), "bundle_sha256": ("cameras",)}
"""What a point's cost depends on beside its size, and the axes it counts for. What only chooses the points is free."""
DEFAULTS = {"width": 0.25, "frames": 48}
"""Those of records from before settings were kept."""
_POINT_S, _LEDGER_S = 1800, 4 * 3600


def points(asked: argparse.Namespace, axis: str) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Name, size on the axis, and what scale_points.py is asked for."""
    match axis:
        case "resolution":
            for side in (one for one in SIDES if one <= asked.most_side):
                yield from _inference(axis, side * side, (side, side), asked.width, 1)
        case "width":
            for width in WIDTHS:
                yield from _inference(axis, width, (512, 512), width, 1)
        case "batch":
            for batch in BATCHES:
                yield from _inference(axis, batch, (704, 256), asked.width, batch)
        case "cameras":
            for count in CAMERAS:
                wanted = {"axis": axis, "size": count, "frames": asked.frames, "bundle": str(asked.bundle.resolve())}
                yield f"{axis} {count}", count, wanted
        case "training":
            for count in (one for one in PICTURES if one <= asked.most_pictures):
                yield f"{axis} {count}", count, {"axis": axis, "size": count}
        case "ledger":
            for rows in asked.ledger_rows:
                yield f"{axis} {rows}", rows, {"axis": axis, "size": rows}


def _inference(
    axis: str, size: float, size_hw: tuple[int, int], width: float, batch: int
) -> Iterator[tuple[str, float, dict[str, Any]]]:
    for backend in BACKENDS:
        wanted = {"axis": axis, "backend": backend, "size_hw": size_hw, "width": width, "batch": batch}
        yield f"{axis} {size:g} {backend}", size, wanted


def measured(wanted: dict[str, Any]) -> dict[str, Any]:
    """One point in a process of its own; {"refused": …} where it failed, as it does without enough memory."""
    command = [sys.executable, str(HERE / "scale_points.py"), json.dumps(wanted)]
    patience = _LEDGER_S if wanted["axis"] == "ledger" else _POINT_S
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, cwd=HERE)
    except subprocess.TimeoutExpired:
        return {"refused": f"not done within {patience} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {"refused": _FOLDERS.sub("", f"ended with {done.returncode}: {last}")[:300]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def curves_of(record: dict[str, Any], axis: str) -> dict[str, dict[float, list[float]]]:
    curves: dict[str, dict[float, list[float]]] = {}
    for point in record["points"].values():
        if point["axis"] == axis and "curves" in point:
            for name, samples in point["curves"].items():
                curves.setdefault(name, {})[point["size"]] = samples
    return curves


def earlier_ledger() -> Iterator[tuple[str, dict[str, Any]]]:
    path = HERE / "results" / "ledger_scale.json"
    for grown in json.loads(path.read_text())["growth"]:
        source = "results/ledger_scale.json"
        yield (
            f"ledger {grown['rows']}",
            {"axis": "ledger", "size": grown["rows"], "curves": ledger_curves(grown), "source": source},
        )


def lend_ledger(known: dict[str, Any], rows: Sequence[int]) -> None:
    """Points of ledger_scale.py where none are asked for. Not both: of two days they would make a knee of the machine's
    state."""
    if rows:
        for name in [name for name, point in known.items() if "source" in point]:
            del known[name]
        return
    if not any(point["axis"] == "ledger" for point in known.values()):
        known.update(earlier_ledger())


def require_same(record: dict[str, Any], settings: dict[str, Any], axes: Sequence[str], path: Path) -> None:
    """Ends the process where an axis that is to go on was measured with other settings; then writes down these.

    A record from before they were kept has the defaults; its cameras' bundle is not known and not refused.
    """
    begun = {point["axis"] for point in record.get("points", {}).values() if "curves" in point}
    known = dict(record.get("settings", DEFAULTS if begun else {}))
    for name, value in settings.items():
        counted = [axis for axis in SETTINGS[name] if axis in begun]
        if not set(axes) & set(SETTINGS[name]) or (counted and name not in known):
            continue
        if counted and known[name] != value:
            option = name.partition("_")[0]
            sys.exit(
                f"{path}: {counted[0]} was measured with another --{option} ({known[name]}, not {value})."
                " Give another -o."
            )
        known[name] = value
    record["settings"] = known


def work(asked: argparse.Namespace, record: dict[str, Any], place: Path) -> None:
    known: dict[str, Any] = record.setdefault("points", {})
    if "ledger" in asked.axes:
        lend_ledger(known, asked.ledger_rows)
    for axis in asked.axes:
        for name, size, wanted in points(asked, axis):
            if name in known and "curves" in known[name] and not asked.again:
                continue
            if "backend" in wanted:
                wanted["bundle"] = str(_bundle(place, wanted))
            # Here and not in the child: what a killed child leaves is removed all the same.
            with tempfile.TemporaryDirectory(dir=asked.folder, prefix="segdec_scale_") as folder:
                found = measured({**wanted, "folder": str(Path(folder).resolve())})
            known[name] = {"axis": axis, "size": size, "run": len(record["runs"]) - 1, **found}
            print(name, {key: value for key, value in known[name].items() if key in ("seconds", "refused")}, flush=True)
            save(asked.output, record)


def _bundle(place: Path, wanted: dict[str, Any]) -> Path:
    height, width = wanted["size_hw"]
    path = place / f"{height}x{width}-{wanted['width']:g}" / "parts.bundle"
    if not path.exists():
        made = measured({"axis": "export", "bundle": str(path), "size_hw": [height, width], "width": wanted["width"]})
        if "refused" in made:
            raise SystemExit(f"a network of {height}x{width}: {made['refused']}")
    return path


def save(path: Path, record: dict[str, Any]) -> None:
    write_atomic(path, (json.dumps(record, indent=1, default=str) + "\n").encode())


def fitted(record: dict[str, Any], axis: str) -> dict[str, Any]:
    found = {name: fit(curve) for name, curve in curves_of(record, axis).items()}
    return {name: asdict(one) for name, one in found.items() if one is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", type=lambda text: text.split(","), default=list(AXES))
    parser.add_argument("--bundle", type=Path, help="for the cameras")
    parser.add_argument("--width", type=float, default=0.25, help="of the networks for resolution and batch")
    parser.add_argument("--most-side", type=int, default=2048)
    parser.add_argument("--most-pictures", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=48, help="of all cameras together, for one sample")
    parser.add_argument("--ledger-rows", type=int, nargs="*", default=[])
    parser.add_argument("--folder", type=Path, help="where the ledger is written; on the disk to be measured")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "scale.json")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.axes) - set(AXES)):
        raise SystemExit(f"no axis {', '.join(unknown)}, wanted some of {', '.join(AXES)}")
    if "cameras" in asked.axes and asked.bundle is None:
        raise SystemExit("the axis cameras needs --bundle PARTS.bundle. Give one, or name other --axes")
    require_folder(asked.folder)
    require_rounds(asked.frames, 1, "frames")
    require_place(asked.output)
    record = earlier(asked.output, "scale") or {}
    settings = {"width": asked.width, "frames": asked.frames}
    if "cameras" in asked.axes:
        settings["bundle_sha256"] = read_bundle(asked.bundle).meta.model.sha256
    require_same(record, settings, asked.axes, asked.output)
    runs = record.setdefault("runs", [])
    runs.append(
        {
            "axes": asked.axes,
            "settings": settings,
            "began": conditions().model_dump(),
            "machine": machine_of().model_dump(),
            "code": code_of().model_dump(),
        }
    )
    record["benchmark"] = "scale"
    with tempfile.TemporaryDirectory() as name:
        work(asked, record, Path(name))
    runs[-1]["ended"] = conditions().model_dump()
    record["fits"] = {axis: fitted(record, axis) for axis in AXES if curves_of(record, axis)}
    record["markdown"] = markdown(record["fits"])
    save(asked.output, record)
    for axis, found in record["fits"].items():
        across, up = AXES[axis]
        svg = plot_svg(f"cost over {across}", across, up, curves_of(record, axis))
        write_atomic(asked.output.with_name(f"{asked.output.stem}_{axis}.svg"), svg.encode())
        for name, one in found.items():
            print(f"{axis:10} {name:44} {told(one)}")


def markdown(fits: dict[str, Any]) -> str:
    rows = ["| axis | curve | exponent | off by | largest knee | exponent there |", "|---|---|---|---|---|---|"]
    for axis, found in fits.items():
        for name, one in found.items():
            knee = one["knee"]
            bend = "– | –" if knee is None else f"{knee['low']:g} to {knee['high']:g} | {knee['exponent']:.2f}"
            rows.append(f"| {axis} | {name} | {one['exponent']:.2f} | ± {100 * one['residual']:.0f} % | {bend} |")
    return "\n".join(rows) + "\n"


def told(found: dict[str, Any]) -> str:
    line = f"exponent {found['exponent']:6.3f}, residual {100 * found['residual']:5.1f} %"
    knee = found["knee"]
    if knee is None:
        return line
    return (
        f"{line}; largest knee {knee['low']:g} to {knee['high']:g}: {knee['exponent']:.2f} ({knee['sigmas']:.1f} sigma)"
    )


if __name__ == "__main__":
    one_line(main)
