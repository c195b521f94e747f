"""segdec data: look at data sets, split them, import annotations."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from segdec_edge.cli.app import Spec, console, data_app
from segdec_edge.errors import ConfigError


@data_app.command("check")
def data_check(spec: Spec) -> None:
    """Count and check a data set; exit 1 with one line per finding when something is wrong."""
    from segdec_edge.data.check import check_dataset, render
    from segdec_edge.data.spec import is_on_disk, open_to_check

    dataset = open_to_check(spec)
    report = check_dataset(dataset, dataset.root if is_on_disk(spec) else None)
    console.print(render(report), markup=False)
    if report.findings:
        raise typer.Exit(1)


@data_app.command("split")
def data_split(
    spec: Spec,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for train.txt, validation.txt and test.txt.")],
    fold: Annotated[int | None, typer.Option(help="A published fold instead of a random split.")] = None,
    items: Annotated[
        int | None, typer.Option(help="Training set of so many items, or defective pictures where none is published.")
    ] = None,
    splits: Annotated[
        Path | None, typer.Option(help="Published splits.json or .pyb, if not beside the pictures.")
    ] = None,
    validation: Annotated[float | None, typer.Option(help="Share of parts for validation; usually 0.")] = None,
    test: Annotated[float | None, typer.Option(help="Share of parts held out; usually 0.3.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random split.")] = 1337,
) -> None:
    """Write the pictures of each subset as lists, one path a line: a replay camera takes such a list."""
    from segdec_edge.data.lists import write_lists
    from segdec_edge.data.spec import open_dataset
    from segdec_edge.data.splits import choose_split

    shares = {"validation": validation, "test": test}
    given = [f"--{name} {share:g}" for name, share in shares.items() if share is not None]
    if given and (fold is not None or splits is not None):
        raise ConfigError(
            f"{' and '.join(given)} with a published split, which says so itself. Leave one of them away."
        )
    dataset = open_dataset(spec)
    split = choose_split(
        dataset,
        seed=seed,
        validation=validation or 0.0,
        test=0.3 if test is None else test,
        fold=fold,
        items=items,
        splits_file=splits,
    )
    console.print(split.how, markup=False)
    for path, count in write_lists(out, dataset, split).items():
        console.print(f"{path}: {count} pictures", markup=False)


@data_app.command("import")
def data_import(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="coco, labelme, cvat or labelstudio.")],
    source: Annotated[Path, typer.Argument(metavar="FILE_OR_FOLDER", help="What the annotation tool exported.")],
    images: Annotated[Path, typer.Option("--images", help="Folder of the annotated pictures.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the data set.")],
    classes: Annotated[
        str, typer.Option(help='Only these classes are defects, as a,b or "a,b",c; by default all.')
    ] = "",
    min_area: Annotated[int, typer.Option(min=0, help="Pixels; smaller regions mark no defect.")] = 0,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies of the pictures.")] = False,
    parts: Annotated[bool, typer.Option("--parts", help="Write parts.csv, each picture a part of its own.")] = False,
) -> None:
    """Turn what annotators export into a data set folder:OUT; boxes alone are enough."""
    from segdec_edge.data.annotations.write import Choice, import_annotations, render

    names = tuple(name.strip() for name in next(csv.reader([classes], skipinitialspace=True), []) if name.strip())
    report = import_annotations(form, source, images, out, Choice(names, min_area, link, parts))
    console.print(render(report), markup=False)
    console.print(f"Next: segdec data check folder:{out}", markup=False)
