"""How a benchmark ends where it cannot go on: one line, and no traceback of what the user can mend."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segdec_edge.errors import SegdecError


def one_line(main: Callable[[], None]) -> None:
    """Run it; a SegdecError or Ctrl-C ends the process with its line."""
    try:
        main()
    except SegdecError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{Path(sys.argv[0]).name}: interrupted.")


def earlier(path: Path, benchmark: str) -> dict[str, Any] | None:
    """The record that an interrupted run of this benchmark left, None without one. Ends the process on another file."""
    if not path.exists():
        return None
    found = read_record(path)
    if found.get("benchmark") != benchmark:
        sys.exit(f"{path}: is no record of {benchmark}. Give another -o.")
    return found


def read_record(path: Path) -> dict[str, Any]:
    """Ends the process where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: cannot be read ({' '.join(str(error).split())}). Give another -o.")
    if not isinstance(found, dict):
        sys.exit(f"{path}: is no record. Give another -o.")
    return found


def require_rounds(rounds: int, sittings: int, option: str = "rounds", share: str = "sittings") -> None:
    """Ends the process where not every sitting has a round. option: what the number is called."""
    if 1 <= sittings <= rounds:
        return
    if sittings == 1:
        sys.exit(f"--{option} {rounds}: wanted 1 or more.")
    sys.exit(f"{rounds} {option} in {sittings} {share}, wanted one of them each or more. Change --{option}.")


def require_folder(folder: Path | None, option: str = "--folder") -> None:
    """Ends the process where a folder is named that is not there."""
    if folder is not None and not folder.is_dir():
        sys.exit(f"{option} {folder}: no such folder. Make it, or name another.")
