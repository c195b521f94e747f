"""The gate for engines: a plan that can run here is scored on held-out pictures beside its model.onnx.

It runs on boards and imports no torch. A plan for another GPU cannot be judged here, and its sidecar says so.
"""

from __future__ import annotations

from collections.abc import Callable

from segdec_edge.bundle import Bundle, add_accuracy
from segdec_edge.deploy.gate import MAX_AP_DROP, Exam, Marks, compare, require_passed, sit
from segdec_edge.runtime import FASTEST_FIRST, open_backend
from segdec_edge.runtime.sidecar import Plan
from segdec_edge.runtime.tensorrt import open_plan
from segdec_edge.types import Backend

Open = Callable[[Plan, Bundle], Backend]


def plan_check(
    bundle: Bundle,
    exam: Exam,
    *,
    max_ap_drop: float = MAX_AP_DROP,
    say: Callable[[str], None] | None = None,
    open_engine: Open = open_plan,
) -> Callable[[Plan], str]:
    """What build_engine asks about a new plan: gives words for the sidecar, and notes the accuracy in meta.json.

    The returned function raises GateError where the plan loses more than max_ap_drop points of AP or of recall against
    model.onnx on the CPU, and BackendError where it does not run.
    """

    def check(plan: Plan) -> str:
        if say is not None:
            say(f"scoring {len(exam.samples)} {exam.subset} pictures with model.onnx on the CPU, then with the engine")
        before = _on_the_cpu(bundle, exam)
        engine = open_engine(plan, bundle)
        try:
            found = compare(before, sit(engine, exam))
        finally:
            engine.close()
        require_passed(found, plan.path.name, max_ap_drop)
        add_accuracy(bundle.path, found.after.accuracy)
        return found.in_words()

    return check


def _on_the_cpu(bundle: Bundle, exam: Exam) -> Marks:
    backend = open_backend(bundle, exam.backend if exam.backend in FASTEST_FIRST else "onnxruntime")
    try:
        return sit(backend, exam)
    finally:
        backend.close()
