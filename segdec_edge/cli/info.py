"""segdec info: what a bundle is and how it came to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segdec_edge.cli.app import app, console


@app.command()
def info(
    bundle: Annotated[Path, typer.Argument(help="A bundle of any age, also a damaged one.")],
    as_json: Annotated[bool, typer.Option("--json", help="For a program.")] = False,
) -> None:
    """What a bundle is: input, threshold, training, accuracy, engines, and its lineage from checkpoint to engine.

    Exit 1 where it is damaged.
    """
    from segdec_edge.deploy.lineage import bundle_facts, to_json
    from segdec_edge.deploy.lineage_text import in_words

    facts = bundle_facts(bundle)
    text = json.dumps(to_json(facts), indent=2, ensure_ascii=False) if as_json else in_words(facts)
    console.print(text, markup=False)
    if facts.damage:
        raise typer.Exit(1)
