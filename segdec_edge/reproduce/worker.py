"""One training of a table in a process of its own: python -m segdec_edge.reproduce.worker FOLDER (with job.json)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from segdec_edge.ending import ending_in_order
from segdec_edge.errors import SegdecError
from segdec_edge.reproduce.execute import JOB, job_from_json, run_job
from segdec_edge.training.progress import TerminalObserver


def main(folder: Path) -> int:
    job = job_from_json(json.loads((folder / JOB).read_text(encoding="utf-8")))
    try:
        with TerminalObserver(job.settings.total_epochs) as observer:
            run_job(job, folder, observer)
    except SegdecError as error:
        sys.stderr.write(f"segdec: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    with ending_in_order():
        status = main(Path(sys.argv[1]))
    sys.exit(status)
