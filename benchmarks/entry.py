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
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: cannot be read ({' '.join(str(error).split())}). Give another -o.")
    if not isinstance(found, dict) or found.get("benchmark") != benchmark:
        sys.exit(f"{path}: is no record of {benchmark}. Give another -o.")
    return dict(found)


def require_rounds(rounds: int, sittings: int) -> None:
    """Ends the process where not every sitting has a round."""
    if not 1 <= sittings <= rounds:
        sys.exit(f"{rounds} rounds in {sittings} sittings, wanted a round a sitting or more. Change --rounds.")
