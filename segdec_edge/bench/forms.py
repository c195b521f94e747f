"""Which forms there are to measure: each artefact on each backend that may run it. Opens nothing; knows no clock.

A peer from elsewhere becomes a form of its own: a name, the input it takes, and a function that opens something with
infer(pixels) → Prediction and close().
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from segdec_edge.bench.record import NotRun
from segdec_edge.bundle import Bundle, read_bundle
from segdec_edge.errors import BundleError, ConfigError
from segdec_edge.runtime import BACKENDS, open_backend
from segdec_edge.runtime.sidecar import plans_of, read_plan
from segdec_edge.types import Backend, ModelSpec, Pixels, Prediction

TORCH = "torch"
ALL = ("tensorrt", "openvino", "onnxruntime", TORCH)
"""torch runs checkpoints, the others bundles."""


class Peer(Protocol):
    """What can be measured. Opened and used by one thread."""

    def infer(self, pixels: Pixels) -> Prediction: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Source:
    """Where a form comes from, so that another process can open it too. plan: the engine's file name."""

    path: Path
    backend: str
    size_hw: tuple[int, int]
    plan: str | None = None


@dataclass(frozen=True)
class Form:
    """One artefact on one backend at one input size.

    open: a fresh one, with so many CPU threads (None: the runtime's own choice). source None: a peer that only this
    process can open. sha256, size_bytes: of the file that runs.
    """

    name: str
    backend: str
    spec: ModelSpec
    size_bytes: int
    open: Callable[[int | None], Peer]
    source: Source | None = None
    build_seconds: float | None = None

    @property
    def key(self) -> str:
        return f"{self.name} {self.backend}"

    def told(self, reason: str) -> str:
        """A reason without the folders above this form's file: a record travels."""
        return reason if self.source is None else reason.replace(f"{self.source.path.parent}/", "")

    @property
    def on_gpu(self) -> bool:
        return self.backend.startswith("tensorrt")


@dataclass(frozen=True)
class Wish:
    """What the user asked for. backends, precisions: None for all; sizes: none for each artefact's own."""

    artefacts: tuple[Path, ...]
    backends: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    sizes: tuple[tuple[int, int], ...] = ()


@dataclass
class Found:
    forms: list[Form] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)

    def refuse(self, name: str, backend: str, reason: str, asked: bool = True) -> None:
        self.not_run.append(NotRun(name=name, backend=backend, batch=None, reason=reason, asked=asked))


def forms_of(wish: Wish) -> Found:
    """Every form that may run here, in the order given, and why others cannot. Whether one runs shows when it is tried.

    Raises BundleError, CheckpointError, ConfigError.
    """
    unknown = [name for name in wish.backends or () if name not in ALL]
    if unknown:
        raise ConfigError(f"--backends {unknown[0]}: unknown, wanted all or some of {', '.join(ALL)}.")
    from segdec_edge.deploy.engine import PRECISIONS  # not at the top: it would count as start-up time of a form

    odd = [name for name in wish.precisions or () if name not in PRECISIONS]
    if odd:
        raise ConfigError(f"--precisions {odd[0]}: unknown, wanted all or some of {', '.join(PRECISIONS)}.")
    found = Found()
    for path, name in zip(wish.artefacts, _names(wish.artefacts), strict=True):
        if path.is_file():
            _checkpoint(path, name, wish, found)
        else:
            _bundle(read_bundle(path), name, wish, found)
    found.forms = [form for form in found.forms if _of_precision(form, wish, found)]
    doubled = [key for key, count in Counter(form.key for form in found.forms).items() if count > 1]
    if doubled:
        raise ConfigError(f"{doubled[0]}: given twice. Give each artefact once, and differing names to different ones.")
    return found


def _checkpoint(path: Path, name: str, wish: Wish, found: Found) -> None:
    if not _asked(TORCH, wish):
        reason = "a checkpoint runs on torch alone. Export it: segdec export"
        found.refuse(name, ", ".join(wish.backends or ()), reason, asked=False)
        return
    from segdec_edge.model.backend import source_range_of, spec_of
    from segdec_edge.model.checkpoint import load_checkpoint

    loaded = load_checkpoint(path)
    own = (loaded.size_hw,) if loaded.size_hw else ()
    for size_hw in wish.sizes or own:
        spec = spec_of(
            loaded.net,
            size_hw,
            threshold=loaded.threshold,
            sha256=loaded.sha256,
            source_hw=source_range_of(loaded.facts),
        )
        named = name if size_hw == loaded.size_hw else f"{name}@{size_hw[0]}x{size_hw[1]}"
        source = Source(path, TORCH, size_hw)
        found.forms.append(Form(named, TORCH, spec, path.stat().st_size, partial(open_source, source), source))
    if not (wish.sizes or own):
        found.refuse(name, TORCH, "does not say its input size. Give it: --size HEIGHTxWIDTH")


def _bundle(bundle: Bundle, name: str, wish: Wish, found: Found) -> None:
    own = bundle.spec.size_hw
    for height, width in (size for size in wish.sizes if size != own):
        reason = f"is made for {own[0]}x{own[1]}. Export the checkpoint at that size: segdec export --size"
        found.refuse(f"{name}@{height}x{width}", "every backend", reason)
    if wish.sizes and own not in wish.sizes:
        return
    for backend in (one for one in BACKENDS if _asked(one, wish)):
        if backend == "tensorrt":
            _engines(bundle, name, found)
        else:
            source = Source(bundle.path, backend, own)
            size = bundle.meta.model.size_bytes
            found.forms.append(Form(name, backend, bundle.spec, size, partial(open_source, source), source))


def _engines(bundle: Bundle, name: str, found: Found) -> None:
    plans = plans_of(bundle)
    if not plans:
        found.refuse(name, "tensorrt", f"holds no engine. Build one on this machine: segdec build {bundle.path.name}")
    for path in plans:
        backend = f"tensorrt/{path.stem}"
        try:
            facts = read_plan(path, bundle).facts
        except BundleError as error:
            found.refuse(name, backend, str(error).replace(str(path.parent), path.parent.name))
            continue
        source = Source(bundle.path, "tensorrt", bundle.spec.size_hw, path.name)
        spec = replace(bundle.spec, precision=facts.precision, sha256=facts.plan_sha256, max_batch=facts.batches[2])
        opened = partial(open_source, source)
        found.forms.append(Form(name, backend, spec, facts.plan_bytes, opened, source, facts.build_seconds))


def reference_key(forms: Sequence[Form]) -> str:
    """The form that the others are compared with: torch where it is there, else the first one."""
    return next((form.key for form in forms if form.backend == TORCH), forms[0].key)


def source_from(values: Mapping[str, Any]) -> Source:
    """A Source from the plain values that JSON leaves of it."""
    height, width = values["size_hw"]
    return Source(Path(values["path"]), str(values["backend"]), (int(height), int(width)), values["plan"])


def open_source(source: Source, threads: int | None = None) -> Backend:
    """Raises BundleError, CheckpointError, BackendError."""
    if source.backend == TORCH:
        from segdec_edge.model.backend import open_checkpoint

        use_torch_threads(threads)
        return open_checkpoint(source.path, source.size_hw)
    bundle = read_bundle(source.path)
    if source.plan is None:
        return open_backend(bundle, source.backend, threads)
    from segdec_edge.runtime.tensorrt import open_plan

    path = next(one for one in plans_of(bundle) if one.name == source.plan)
    return open_plan(read_plan(path, bundle), bundle)


def use_torch_threads(threads: int | None) -> None:
    """torch has one number for the whole process: None brings back what it chose by itself."""
    import torch

    own = _own_torch_threads()
    torch.set_num_threads(threads or own)


@cache
def _own_torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def _asked(backend: str, wish: Wish) -> bool:
    return wish.backends is None or backend in wish.backends


def _of_precision(form: Form, wish: Wish, found: Found) -> bool:
    if wish.precisions is None or form.spec.precision in wish.precisions:
        return True
    reason = f"is {form.spec.precision}, asked for {', '.join(wish.precisions)}"
    found.refuse(form.name, form.backend, reason, asked=False)
    return False


def _names(paths: Sequence[Path]) -> list[str]:
    """Each file's or folder's own name; with its folder's where two of one kind are called the same."""
    plain = [(path.suffix, path.resolve().name.removesuffix(path.suffix)) for path in paths]
    return [
        name if plain.count((suffix, name)) == 1 else f"{path.resolve().parent.name}/{name}"
        for path, (suffix, name) in zip(paths, plain, strict=True)
    ]
