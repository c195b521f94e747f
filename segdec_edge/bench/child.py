"""The process that segdec bench starts for each form: from nothing to the first verdict, and its memory at each batch.

Run as `python -m segdec_edge.bench.child JSON`; the last line of its output is a JSON object, the fields of Trial. It
writes one after each batch, so that a batch that kills it takes the others' figures not with it.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    wanted = json.loads(sys.argv[1])
    _tell(_run(wanted))


def _tell(found: dict[str, Any]) -> None:
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    sys.stdout.flush()


def _run(wanted: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from segdec_edge.bench.forms import open_source, source_from
    from segdec_edge.bench.nvml import open_nvml
    from segdec_edge.bench.stages import decide_all, prepared
    from segdec_edge.decision import Rule
    from segdec_edge.errors import SegdecError

    imported = time.monotonic_ns()
    told: dict[str, Any] = {"import_ms": (imported - wanted["started_ns"]) / 1e6, "before_mib": peak_mib()}
    gpu = open_nvml() if wanted["source"]["backend"] == "tensorrt" else None
    used_before = gpu.used_mib() if gpu else None
    try:
        source = source_from(wanted["source"])
        backend = open_source(source, wanted["threads"])
        told["load_ms"] = (time.monotonic_ns() - imported) / 1e6
        raw, spec, rule = np.load(wanted["picture"]), backend.spec, Rule(wanted["threshold"])
        one = prepared([raw], spec)
        decide_all(backend.infer(one), rule)
    except SegdecError as error:
        return {"refused": str(error)}
    told["first_verdict_ms"] = (time.monotonic_ns() - wanted["started_ns"]) / 1e6
    memory, on_gpu, refusals = {}, {}, {}
    for batch in wanted["batches"]:
        try:
            backend.infer(np.repeat(one, batch, axis=0))
        except SegdecError as error:
            refusals[batch] = str(error)
            continue
        except MemoryError:
            refusals[batch] = f"too little memory for {batch} pictures at a time. Choose a smaller --batch"
            continue
        memory[batch] = peak_mib()
        used = gpu.used_mib() if gpu else None
        if used is not None and used_before is not None:
            on_gpu[batch] = used - used_before
        told |= {"host_mib": memory, "gpu_mib": on_gpu, "refusals": refusals}
        _tell(told)
    backend.close()
    return {**told, "host_mib": memory, "gpu_mib": on_gpu, "refusals": refusals}


def peak_mib() -> float:
    """The most physical memory that this process has had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main()
