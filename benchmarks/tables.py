"""Put the tables of committed benchmark records into README.md and benchmarks/README.md: no figure is ever typed.

A block stands between two comments that name the record and how much of it is shown; other scripts' records bring their
own text with them, under "markdown", and are shown as such; "rule" works out aa_rule.py's table from the raw samples:

    <!-- bench results/bench_kolektor_fold0.json summary -->
    <!-- bench end -->
    <!-- bench results/peers.json markdown -->
    <!-- bench end -->

`make tables` fills every block; a test holds that each block is what its record gives.

    python benchmarks/tables.py            # fill them
    python benchmarks/tables.py --check    # exit 1 where one is not up to date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from aa_rule import rule_table

from segdec_edge.bench.record import read_record
from segdec_edge.bench.text import markdown, summary
from segdec_edge.errors import ConfigError
from segdec_edge.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]
FILES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
BLOCK = re.compile(r"(<!-- bench (\S+) (summary|full|markdown|rule) -->\n).*?(<!-- bench end -->)", re.DOTALL)
_TEXTS = {"summary": summary, "full": markdown}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    stale = [path for path in FILES if filled(path.read_text(encoding="utf-8")) != path.read_text(encoding="utf-8")]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'not up to date. Run make tables' if asked.check else 'filled'}")
        if not asked.check:
            write_atomic(path, filled(path.read_text(encoding="utf-8")))
    sys.exit(1 if asked.check and stale else 0)


def filled(text: str, folder: Path = ROOT / "benchmarks") -> str:
    """The same text with what each block's record gives. folder: where the records' names begin. Raises ConfigError."""
    return BLOCK.sub(lambda found: found[1] + _shown(folder / found[2], found[3]) + found[4], text)


def _shown(path: Path, how: str) -> str:
    if not path.is_file():
        return f"(`{path.name}` is not measured yet)\n"
    match how:
        case "markdown":
            return _own_text(path)
        case "rule":
            return rule_table(json.loads(path.read_text(encoding="utf-8")))
    return _TEXTS[how](read_record(path))


def _own_text(path: Path) -> str:
    text = json.loads(path.read_text(encoding="utf-8")).get("markdown")
    if text is None:
        raise ConfigError(f"{path}: holds no table. Measure it anew: benchmarks/README.md names the command.")
    return str(text)


if __name__ == "__main__":
    from entry import one_line

    one_line(main)
